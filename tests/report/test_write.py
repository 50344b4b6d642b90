"""The report: the verdict first, every number with its interval and its warning, one file that
needs nothing else."""

from __future__ import annotations

import csv
import html
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.errors import InputError
from lcm_scale.evaluation.baselines import TOLD
from lcm_scale.evaluation.metrics import METRICS, Metric, Predictions, primary, resampled
from lcm_scale.evaluation.results import Report, Subgroup, TargetResult
from lcm_scale.report import curves, explain_section, style
from lcm_scale.report.explained import FORMAT
from lcm_scale.report.figures import comparison
from lcm_scale.report.verdict import verdict
from lcm_scale.report.wording import MINUS, better
from lcm_scale.report.write import write_report

N = 120
REASON = "all patients come from one scanner."
NASTY = '<script>alert("x")</script>&../../etc'


def predictions(target: str, model: str, skill: float, categories: tuple[str, ...]) -> Predictions:
    """Truth is the same for every model of a target; `skill` 0 is a constant guess."""
    rng = np.random.default_rng(len(target))
    subject, fold, scan = (
        np.array([f"{i:04x}" for i in range(N)]),
        np.arange(N) % 4 + 1,
        np.arange(N),
    )
    if len(categories) == 1:
        truth = rng.uniform(8, 60, N)
        noise = np.random.default_rng(len(model)).normal(0, 5 / max(skill, 1e-9) if skill else 0, N)
        scores = truth + noise if skill else np.full(N, truth.mean())
        return Predictions(model, target, "scalar", categories, truth, scores, subject, fold, scan)
    codes = rng.permutation(np.arange(N) % len(categories))
    noise = np.random.default_rng(len(model)).normal(size=(N, len(categories)))
    logits = (
        noise + skill * np.eye(len(categories))[codes] if skill else np.zeros((N, len(categories)))
    )
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(model, target, "class", categories, codes, scores, subject, fold, scan)


def result(
    target: str,
    categories: tuple[str, ...],
    skills: dict[str, float],
    confounded: str | None = None,
) -> TargetResult:
    by_model = {
        model: predictions(target, model, skill, categories) for model, skill in skills.items()
    }
    ours = by_model["LCM"]
    draws = {model: resampled(p, 100, 0) for model, p in by_model.items()}
    return TargetResult(
        target=target,
        kind=ours.kind,
        categories=categories,
        n_scans=N,
        n_subjects=N,
        results={model: drawn.metrics() for model, drawn in draws.items()},
        differences={m: draws["LCM"].minus(d) for m, d in draws.items() if m != "LCM"},
        deciding=primary(ours.kind, len(categories)),
        confounded=confounded,
        predictions=tuple(by_model.values()),
        unit="years" if target == "age" else "",
    )


def epoch(fold: str, number: int, phase: str, val_loss: float | None) -> dict[str, Any]:
    """A row of the learning curves."""
    return {
        "fold": fold,
        "model": 1,
        "epoch": number,
        "phase": phase,
        "train_loss": 2 / (number + 1),
        "val_loss": val_loss,
        "kept": number == 3,
    }


AUROC = Metric("auroc", 0.71, 0.6, 0.8, 40, 40)
APART = Metric("auroc", -0.1, -0.2, -0.01, 40, 40, 0.006)
WINS = {"LCM": 3.0, "majority": 0.0, "linear": 1.0}
LOSES = {"LCM": 0.6, "majority": 0.0, "linear": 3.0}


@cache
def report(simulated: bool = True) -> Report:
    return Report(
        title="A small study",
        simulated=simulated,
        headline="diagnosis",
        targets=(
            result("age", ("age",), WINS),
            result("diagnosis", ("CN", "Autism"), LOSES),
            result("site", tuple(f"site {i}" for i in range(10)), WINS, confounded=REASON),
        ),
        notes=("One note.",),
        protocol="Nested cross-validation: 4 folds.",
        data={"set": "toy", "scans": N},
        stages=(("shard", {"toy": "120 scans"}), ("evaluate", {"folds": 4})),
        curves=[
            epoch(fold, e, "momentum" if e < 3 else "adaptive", None if e == 0 else 1.0)
            for fold in ("Fold 1", "Fold 2")
            for e in range(6)
        ],
        pseudo_labels=[
            {
                "phase": "momentum",
                "target": "sex",
                "missing": 45,
                "given": 40,
                "mean_confidence": 0.978,
                "categories": "M: 31, F: 9",
                "known": 83,
                "agreement": 0.9759,
            },
            {
                "phase": "momentum",
                "target": "age",
                "missing": 51,
                "given": 51,
                "mean_confidence": float("nan"),
                "categories": "13.5 to 50.4",
                "known": 77,
                "agreement": 7.319,
            },
        ],
        quality={
            "scans": N,
            "skipped": {},
            "constant regions, in scans": {"Dead_L": N, **{f"R{i}": i + 1 for i in range(60)}},
        },
        subgroups=tuple(
            Subgroup("diagnosis", "site", f"<{name}>", "auroc", "linear", n, n, *found)
            for name, n, found in (("few", 6, ()), ("many", 40, (AUROC, AUROC, APART, 0.012)))
        ),
        together={"age": 0.02, "diagnosis": 0.3},
        provenance={
            "versions": {"torch": "2"},
            "seed": 1,
            "tokens": np.int64(12),
            "rate": float("nan"),
        },
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(report(), tmp_path_factory.mktemp("reports") / "runs" / "toy").parent


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a reader reads: no markup, no styles."""
    bare = re.sub(r"</?span[^>]*>", "", page)
    bare = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", bare, flags=re.DOTALL))
    return re.sub(r"\s+", " ", html.unescape(bare))


def small(tmp_path: Path, **changes: Any) -> str:
    only = replace(report(), targets=report().targets[1:2], curves=(), pseudo_labels=(), **changes)
    return write_report(only, tmp_path / "r").read_text(encoding="utf-8")


# -- the page --------------------------------------------------------------------------------------


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


# -- the verdict -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skills", "standing", "words"),
    [
        (LOSES, "behind", "A plain baseline beats LCM on t "),
        (WINS, "ahead", "LCM beats the best baseline on t "),
        (
            {"LCM": 0.0, "majority": 0.0},
            "level",
            "No difference can be shown between LCM and the best baseline on t ",
        ),
        ({"LCM": 1.0}, "alone", "On t "),
    ],
)
@pytest.mark.parametrize("categories", [("a", "b"), ("t",)], ids=["class", "scalar"])
def test_the_verdict_says_who_wins(
    skills: dict[str, float], standing: str, words: str, categories: tuple[str, ...]
) -> None:
    found = verdict(result("t", categories, skills))
    assert found.standing == standing and found.sentence.startswith(words)


def test_a_lead_within_the_interval_is_no_victory() -> None:
    t = result("t", ("a", "b"), {"LCM": 1.5, "linear": 1.4, "majority": 0.0})
    difference = t.difference("linear", "auroc")
    assert difference.low < 0 < difference.high, "the case must be close"
    found = verdict(t)
    assert found.standing == "level" and found.sentence.startswith("No difference can be shown")
    assert "it includes zero, so who leads may be an accident" in found.detail


def test_constant_guesses_win_no_prize_for_calibration() -> None:
    """They are calibrated by construction."""
    t = report().targets[1]
    assert t.metric("majority", "calibration_error").value < 0.01
    kind = METRICS["class"]["calibration_error"]
    assert better(t.results, kind, "calibration_error") in ("LCM", "linear")


def test_the_best_baseline_is_the_one_compared_with() -> None:
    t = result("t", ("a", "b"), {"LCM": 1.0, "majority": 0.0, "linear": 1.5, "tangent": 3.0})
    assert t.best_baseline == "tangent" and "tangent space" in verdict(t).sentence
    assert (
        result("t", ("t",), {"LCM": 1.0, "majority": 0.0, "linear": 3.0}).best_baseline == "linear"
    ), "smaller error"


def test_even_guessing_may_win_and_is_named() -> None:
    t = result("t", ("t",), {"LCM": 0.1, "majority": 0.0})
    assert "always guessing the mean has mean absolute error" in verdict(t).sentence


# -- the files -------------------------------------------------------------------------------------


def test_the_json_is_plain_and_holds_every_number(folder: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    data = json.loads((folder / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert data["verdict"]["standing"] == "behind" and data["simulated"] is True
    assert data["provenance"] == {"versions": {"torch": "2"}, "seed": 1, "tokens": 12, "rate": None}
    by_target = {t["target"]: t for t in data["targets"]}
    assert by_target["site"]["confounded"] == REASON
    accuracy = by_target["diagnosis"]["results"]["LCM"][0]
    assert accuracy["name"] == "accuracy" and accuracy["low"] < accuracy["value"] < accuracy["high"]
    constant = next(m for m in by_target["age"]["results"]["majority"] if m["name"] == "pearson_r")
    assert constant["value"] is None, "undefined is null, not NaN"
    assert len(data["quality"]["constant regions, in scans"]) == 61, (
        "the page folds, the file keeps"
    )


def test_the_csv_files_hold_each_metric_difference_and_prediction(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert len(rows) == (3 + 2) * (3 + 8 + 8)
    assert {(r["model"], r["minus"]) for r in rows if r["minus"]} == {
        ("LCM", "majority"),
        ("LCM", "linear"),
    }
    scans = list(csv.DictReader((folder / "predictions.csv").open()))
    assert len(scans) == 3 * 3 * N
    first = next(row for row in scans if row["target"] == "diagnosis" and row["model"] == "LCM")
    assert first["truth"] in ("CN", "Autism") and re.fullmatch(
        r"CN=0\.\d{6,};Autism=0\.\d{6,}", first["scores"]
    )


def test_the_same_report_is_the_same_files(folder: Path, tmp_path: Path) -> None:
    rewritten = write_report(report(), tmp_path / "r").parent
    assert sorted(p.relative_to(rewritten) for p in rewritten.rglob("*")) == sorted(
        p.relative_to(folder) for p in folder.rglob("*")
    )
    for name in ("report.html", "results.json", "results.csv", "predictions.csv"):
        assert (rewritten / name).read_bytes() == (folder / name).read_bytes(), name


def test_figures_of_an_earlier_report_are_cleared_and_other_files_left(tmp_path: Path) -> None:
    (tmp_path / "r" / "figures").mkdir(parents=True)
    (tmp_path / "r" / "figures" / "eye_status-roc.png").write_bytes(b"old")
    (tmp_path / "r" / "figures" / "mine.svg").write_bytes(b"mine")
    small(tmp_path)
    left = {p.name for p in (tmp_path / "r" / "figures").iterdir()}
    assert "eye_status-roc.png" not in left and "mine.svg" in left and "diagnosis-roc.png" in left


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(replace(report(), targets=report().targets[1:2]), tmp_path / "r")


# -- what the model uses ---------------------------------------------------------------------------


def explain(run: Path, title: str = "PD", **models: str) -> None:
    """As `lcm-scale explain` leaves it."""
    (run / "explain" / "figures").mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg", "csv"):
        (run / "explain" / "figures" / f"map.{ending}").write_text("<svg></svg>")
    figure = {"target": "diagnosis", "title": title, "caption": "A <map>.", "file": "map"}
    facts = {"format": FORMAT, "sentences": ["Nothing & no more."], "models": dict(models)}
    facts["figures"] = [figure]
    (run / "explain" / "explain.json").write_text(json.dumps(facts))


def test_maps_made_after_a_report_come_into_it_and_stay_when_it_is_written_again(
    tmp_path: Path,
) -> None:
    assert not explain_section.renew(tmp_path / "r"), "no report"
    before = small(tmp_path)
    assert "What the model uses" not in before and explain_section.renew(tmp_path / "r")
    assert (tmp_path / "r" / "report.html").read_text() == before, "nobody has explained the run"
    explain(tmp_path / "r", "<PD>")
    for _ in range(2):
        assert explain_section.renew(tmp_path / "r")
    page = (tmp_path / "r" / "report.html").read_text()
    assert page.count("What the model uses") == 1 and "Nothing &amp; no more." in page
    assert "&lt;PD&gt;" in page and "A &lt;map&gt;." in page and "<script" not in page
    for file in ("figures/map.png", "figures/map.svg", "figures/map.csv", "explain.html"):
        assert f'href="explain/{file}"' in page
    assert small(tmp_path) == page, "an evaluation that is repeated keeps it"
    (tmp_path / "r" / "explain" / "figures" / "map.svg").unlink()
    with pytest.raises(InputError, match=r"map\.svg: cannot be read .*explain again"):
        explain_section.renew(tmp_path / "r")
    assert (tmp_path / "r" / "report.html").read_text() == page, "nothing half-written"
    explain(tmp_path / "r", **{"folds/fold-1/checkpoints/final.ckpt": "a mark"})
    assert explain_section.renew(tmp_path / "r")
    assert (tmp_path / "r" / "report.html").read_text() == before, "maps of models that are gone"
    (tmp_path / "r" / "report.html").write_text("of an older version")
    assert not explain_section.renew(tmp_path / "r")


# -- the figures -----------------------------------------------------------------------------------


def test_a_baseline_has_one_colour_and_marker_in_every_figure() -> None:
    names = ["Majority", "Linear, edges", "Linear, tangent"]
    looks = [style.look(name, "LCM", names) for name in ["LCM", *names]]
    assert len(set(looks)) == 4 and looks[0] == (style.MODEL, "o")
    assert len({marker for _, marker in looks}) == 4, "never colour alone"


def test_no_line_runs_through_a_word_of_a_comparison() -> None:
    """Names and values stand above their interval, the dashes of chance in its track alone."""
    t = report().targets[1]
    shown = {model: t.metric(model, "auroc") for model in t.results}
    figure, _ = comparison(t, "auroc", shown)
    with style.style():
        figure.canvas.draw()
    axes = figure.axes[0]
    words = [text.get_window_extent() for text in axes.texts]
    lines = [line.get_window_extent() for line in axes.lines]
    assert len(words) == 6 and not any(w.overlaps(line) for w in words for line in lines)
    assert not any(a.overlaps(b) for a in words for b in words if a is not b)


def test_every_fold_has_a_panel_with_its_own_epochs_phases_and_the_one_kept() -> None:
    rows = [
        epoch(f"Fold {fold}", e, "momentum" if e < 2 else "adaptive", fold + e)
        for fold in (1, 2, 3)
        for e in range(200)
    ]
    figure = curves.learning_curves(rows, 2)
    with style.style():
        figure.canvas.draw()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Fold 1", "Fold 2", "Fold 3", ""]
    second = figure.axes[1]
    assert {line.get_label(): list(line.get_ydata()) for line in second.lines}["epoch kept"] == [5]
    boxes = [text.get_window_extent() for text in second.texts]
    assert len(boxes) == 2 and not boxes[0].overlaps(boxes[1])
    title = second._left_title.get_window_extent()  # type: ignore[attr-defined]
    assert not any(title.overlaps(box) for box in boxes)


def test_a_single_epoch_without_validation_can_be_drawn() -> None:
    assert curves.learning_curves([epoch("Fold 1", 0, "one", None)], 5).axes[0].lines


def test_a_part_that_leads_is_not_the_best_baseline() -> None:
    """People memory alone may be the best of the table; the verdict is about plain models."""
    skills = {"LCM": 3.0, "people memory": 9.0, "decoder": 1.0, "majority": 0.0, "linear": 2.0}
    whole = result("diagnosis", ("CN", "Autism"), skills)
    parted = replace(whole, parts=("people memory", "decoder"))
    assert whole.best_baseline == "people memory" and parted.best_baseline == "linear"
    assert "Its people memory does the work: alone it has" in verdict(parted).detail
    assert "does the work" not in verdict(whole).detail


def apart(t: TargetResult, **leads: tuple[float, float]) -> TargetResult:
    """With other intervals of the deciding differences, by name ('_' for a space)."""
    less = dict(t.differences)
    for name, (low, high) in leads.items():
        key = {"told": TOLD}.get(name, name.replace("_", " "))
        ends = {"value": (low + high) / 2, "low": low, "high": high}
        less[key] = tuple(
            replace(m, **ends) if m.name == t.deciding else m for m in t.differences[key]
        )
    return replace(t, differences=less)


@pytest.mark.parametrize(
    ("memory", "decoder", "part", "said"),
    [
        ((-0.1, 0.1), (0.1, 0.2), "people memory", "Its people memory does the work"),
        ((0.1, 0.2), (-0.1, 0.1), "decoder", "Its decoder does the work"),
        ((0.1, 0.2), (0.1, 0.2), "people memory and decoder together", "Both parts count"),
        ((-0.1, 0.1), (-0.1, 0.1), "", "Which part does the work cannot be told"),
        ((-0.2, -0.1), (0.1, 0.2), "", "Its people memory alone (0."),
        ((0.0, 0.0), (-0.1, 0.1), "people memory", "is added, which by itself has "),
        ((0.0, 0.0), (-0.2, -0.1), "people memory", "which by itself is ahead with "),
    ],
)
def test_the_verdict_names_the_part_that_the_differences_show(
    memory: tuple[float, float], decoder: tuple[float, float], part: str, said: str
) -> None:
    skills = {"LCM": 3.0, "people memory": 2.9, "decoder": 2.8, "majority": 0.0}
    t = replace(result("t", ("a", "b"), skills), parts=("people memory", "decoder"))
    found = verdict(apart(t, people_memory=memory, decoder=decoder))
    assert found.standing == "ahead" and found.part == part and said in found.detail
    assert found.sentence.endswith(f" What wins: {part}." if part else "].")
    level = verdict(apart(t, majority=(-0.1, 0.1), people_memory=memory, decoder=decoder))
    assert level.part == "" and "What wins" not in level.sentence, "where nobody leads"


def test_the_verdict_says_whether_context_or_pretraining_makes_the_lead() -> None:
    skills = {"LCM": 3.0, "tangent": 1.0, TOLD: 1.1, "scratch": 1.2, "majority": 0.0}
    t = apart(result("t", ("a", "b"), skills), tangent=(0.1, 0.2), scratch=(0.1, 0.2))
    explained = verdict(apart(t, told=(-0.1, 0.1)))
    assert "the context may be all of the lead" in explained.detail
    stands = verdict(apart(t, told=(0.1, 0.2)))
    assert "the context does not explain the lead" in stands.detail
    assert stands.part == "pretraining" and "What wins: pretraining." in stands.sentence


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
