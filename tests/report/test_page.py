"""The page: the verdict first, every number with its interval and its warning, one file that
needs nothing else."""

import csv
import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from toy_report import (
    LOSES,
    NASTY,
    REASON,
    N,
    report,
    result,
    small,
    text_of,
)

from lcm_scale.report.wording import MINUS
from lcm_scale.report.write import write_report


def test_the_page_is_one_file_without_script_or_link(page: str) -> None:
    assert "<script" not in page and "http:" not in (bare := re.sub(r"base64,[\w+/=]+", "", page))
    assert "https:" not in bare
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    beside = ("data:image/svg+xml;base64", "#target-", "figures/")
    assert sources and all(s.startswith(beside) for s in sources)
    assert "@import" not in page and "url(" not in page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page


def test_every_figure_is_a_png_an_svg_and_its_numbers_with_links_below_it(
    folder: Path, page: str
) -> None:
    figures = folder / "figures"
    linked = re.findall(r'href="figures/([^"]+)"', page)
    assert sorted(linked) == sorted(p.name for p in figures.iterdir())
    assert {Path(name).suffix for name in linked} == {".png", ".svg", ".csv"}
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in figures.glob("*.png"))
    assert all(b"<svg" in p.read_bytes() for p in figures.glob("*.svg"))


def test_a_figure_draws_what_its_csv_says(folder: Path) -> None:
    t = report().targets[1]
    rows = list(csv.DictReader((folder / "figures" / "diagnosis-comparison-auroc.csv").open()))
    ours = t.metric("LCM", "auroc")
    assert [row["model"] for row in rows] == list(t.results)
    assert [float(rows[0][key]) for key in ("value", "low", "high")] == [
        ours.value,
        ours.low,
        ours.high,
    ]
    table = list(csv.DictReader((folder / "figures" / "diagnosis-confusion.csv").open()))
    assert sum(int(row["scans"]) for row in table) == N
    assert sum(float(row["share_of_true"]) for row in table) == pytest.approx(2)
    bins = list(csv.DictReader((folder / "figures" / "diagnosis-calibration.csv").open()))
    assert sum(int(row["scans"]) for row in bins) == N
    people = list(csv.DictReader((folder / "figures" / "age-scatter.csv").open()))
    assert len(people) == N and set(people[0]) == {"fold", "subject", "scan", "truth", "predicted"}
    epochs = list(csv.DictReader((folder / "figures" / "learning-curves.csv").open()))
    assert len(epochs) == len(report().curves) and epochs[0]["val_loss"] == ""


def test_what_decides_stands_open_and_the_other_metrics_are_folded_away(page: str) -> None:
    section = page[page.index('<section id="target-1">') :]
    section = section[: section.index("</section>")]
    opened, folded = section.split("<details>")
    assert "AUROC" in opened and "Brier" not in opened and "Balanced accuracy" not in opened
    assert "Balanced accuracy" in folded and "LCM minus it" in folded
    rows = [text_of(row) for row in re.findall(r"<tr.*?</tr>", opened, re.DOTALL)]
    assert "LCM" in rows[1] and "best baseline" in rows[2] and "LCM is behind" in rows[2]
    assert "Majority" in rows[3] and "LCM is ahead" in rows[3]


def test_a_narrow_page_names_the_column_of_every_cell(page: str) -> None:
    """There rows become cards without a head, so that nothing scrolls out of sight."""
    for table in re.findall(r'<table class="stack.*?</table>', page, re.DOTALL):
        cells = re.findall(r"<td([^>]*)>(.*?)</td>", table, re.DOTALL)
        assert cells and all("data-label=" in about for about, inner in cells if inner.strip())
    assert "overflow-x" not in page


def test_the_page_is_laid_out_for_paper(page: str) -> None:
    assert "@page { size:A4" in page and re.search(r"figure, img[^{]*{ break-inside:avoid", page)


def test_the_verdict_is_the_first_thing_a_reader_reads(page: str) -> None:
    body = text_of(page[page.index("<main>") :])
    assert body.strip().startswith(
        "A small study A plain baseline beats LCM on diagnosis (120 simulated scans, 120 people)"
    )


def test_the_first_screen_holds_n_interval_baseline_and_difference(page: str) -> None:
    card = text_of(page[page.index('<section class="card') : page.index("</section>")])
    assert re.search(r"120 simulated scans, 120 people", card)
    assert re.search(
        r"a linear model on the edges has AUROC \d\.\d{3} \[0\.\d{3}, \d\.\d{3}\], LCM has "
        r"0\.\d{3} \[",
        card,
    )
    assert (
        f"The paired difference, LCM minus a linear model on the edges, is {MINUS}0." in card
        and "it excludes zero" in card
    )


def test_a_number_is_not_parted_from_its_interval(page: str) -> None:
    assert re.search(r'<span class="whole">0\.\d{3} \[0\.\d{3}, \d\.\d{3}\]</span>', page)


def test_the_headline_comes_first_whatever_the_order_of_the_targets(page: str) -> None:
    headings = re.findall(r"<h2>(\w+)", page)
    assert headings[:4] == ["At", "Diagnosis", "Age", "Site"]


def test_simulated_stands_in_title_banner_and_every_heading_table_and_figure(
    folder: Path, page: str
) -> None:
    assert "<title>SIMULATED · A small study</title>" in page
    assert '<div class="banner" role="note"><b>SIMULATED</b>' in page
    for table in re.findall(r"<h2>(.*?)</table>", page, re.DOTALL):
        assert "SIMULATED" in table
    assert all("SIMULATED" in alt for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page))
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert {row["simulated"] for row in rows} == {"True"}


def test_real_data_are_not_called_simulated(tmp_path: Path) -> None:
    page = small(tmp_path, simulated=False)
    assert "simulated" not in text_of(page).lower() and 'banner"' not in page


def test_every_table_and_figure_is_there(folder: Path, page: str) -> None:
    read = text_of(page)
    for words in (
        "Accuracy",
        "Balanced accuracy",
        "Weighted F1",
        "AUROC",
        "Calibration error",
        "Mean absolute error",
        "R²",
        "Pearson r",
        "LCM minus it",
        "Majority",
        "Linear, edges",
        "At a glance",
        "Pseudo-labels",
        "Quality",
        "Provenance",
        "One note.",
        "Nested cross-validation: 4 folds.",
    ):
        assert words in read, words
    assert sorted(p.stem for p in (folder / "figures").glob("*.png")) == FIGURES
    assert page.count("<img ") == len(FIGURES) + 1, "learning curves also for a narrow page"


FIGURES = [
    "age-comparison-mae",
    "age-comparison-r2",
    "age-scatter",
    "diagnosis-calibration",
    "diagnosis-comparison-accuracy",
    "diagnosis-comparison-auroc",
    "diagnosis-confusion",
    "diagnosis-roc",
    "learning-curves",
    "site-calibration",
    "site-comparison-accuracy",
    "site-comparison-auroc",
    "site-confusion",
]


def test_confounded_numbers_are_marked_wherever_they_stand(folder: Path, page: str) -> None:
    section = page[page.index('<section id="target-3">') :]
    section = section[: section.index("</section>")]
    assert f"Do not believe these numbers: {REASON}" in section
    assert section.count('<span class="mark">CONFOUNDED</span>') == 3, "heading and both tables"
    assert all("CONFOUNDED" in alt for alt in re.findall(r'alt="([^"]*)"', section))
    glance = page[page.index("At a glance") : page.index('<section id="target-1">')]
    assert re.search(r"site</a>.{0,80}CONFOUNDED", glance)
    marked = {
        row["target"]: row["confounded"] for row in csv.DictReader((folder / "results.csv").open())
    }
    assert marked == {"age": "", "diagnosis": "", "site": REASON}


def test_a_confounded_headline_says_so_beside_the_verdict(tmp_path: Path) -> None:
    confounded = replace(report(), headline="site", targets=report().targets[2:])
    page = write_report(confounded, tmp_path / "r").read_text()
    card = page[page.index('<section class="card') : page.index("</section>")]
    assert "CONFOUNDED" in card and REASON in card


def test_constant_regions_are_named_or_counted(page: str) -> None:
    """A region that is constant in every scan is named; sixty others are a count that unfolds."""
    quality = page[page.index("<h3>Quality</h3>") :]
    assert "<dt>constant in every scan</dt><dd>Dead_L</dd>" in quality
    assert re.search(
        r"<details><summary>60 regions, each in at most 60 scans</summary>R0: 1, R1: 2,", quality
    )


def test_pseudo_labels_have_readable_headings_and_name_their_agreement(page: str) -> None:
    table = text_of(page[page.index("<h2>Pseudo-labels") : page.index("<h2>Data and protocol")])
    assert (
        "Phase Target Scans without it Filled in Mean confidence What was filled in Validation scans with it "
        "Agreement" in table
    )
    assert (
        "97.6 % right" in table
        and "off by 7.32 years" in table
        and "mean absolute error of a number" in table
    )
    assert "mean_confidence" not in page


def test_a_nasty_target_name_is_text_on_the_page_and_stays_in_the_folder(tmp_path: Path) -> None:
    nasty = replace(result("diagnosis", (NASTY, "b"), LOSES), target=NASTY)
    nasty = replace(nasty, predictions=tuple(replace(p, target=NASTY) for p in nasty.predictions))
    page = write_report(
        replace(report(), title=NASTY, headline=NASTY, targets=(nasty,), notes=(NASTY,)),
        tmp_path / "in" / "r",
    ).read_text(encoding="utf-8")
    assert "<script" not in page and page.count(html.escape(NASTY, quote=False)[:20]) > 3
    assert {p.parent for p in tmp_path.rglob("*") if p.is_file()} == {
        tmp_path / "in" / "r",
        tmp_path / "in" / "r" / "figures",
    }
    drawn = {p.name for p in (tmp_path / "in" / "r" / "figures").iterdir()}
    assert len(drawn) == 18 and all(re.fullmatch(r"[\w.-]+", name) for name in drawn)


def test_names_that_matplotlib_or_a_spreadsheet_would_run_are_names(tmp_path: Path) -> None:
    formula, sheet = r"$\bad{$", "=1+1"
    named = replace(result("diagnosis", (formula, sheet), LOSES), target=sheet)
    named = replace(named, predictions=tuple(replace(p, target=sheet) for p in named.predictions))
    write_report(replace(report(), headline=sheet, targets=(named,)), tmp_path)
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert {row["target"] for row in rows} == {"'=1+1"}
    assert any(float(row["value"]) < 0 for row in rows)  # numbers stay numbers
    scans = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert {row["truth"] for row in scans} == {formula, "'=1+1"}


def test_no_path_of_this_machine_is_written(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            assert (
                str(folder).encode() not in file.read_bytes()
                and str(Path.home()).encode() + b"/" not in file.read_bytes()
            )


def test_groups_stand_in_the_page_and_in_a_file_of_their_own(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "By site and by sex" in page and "1 apart from the rest" in page
    assert "&lt;many&gt;" in page and "p = .012" in page
    rows = list(csv.DictReader((folder / "subgroups.csv").open()))
    assert [row["group"] for row in rows] == ["<few>", "<many>"]
    assert (rows[0]["value"], rows[1]["value"], rows[1]["p_holm"]) == ("", "0.71", "0.012")


def test_several_targets_are_said_to_be_several(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "All 3 targets together" in page and "3 targets were tested" in page
    assert "p = .020 <small>holds" in page and "p = .300 <small>does not hold" in page
