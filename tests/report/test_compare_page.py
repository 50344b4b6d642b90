"""The page of two compared runs: nobody is ahead without an interval, and what differs is said."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.evaluation.compare import Compared, People, Row, Told
from lcm_scale.evaluation.metrics import Metric
from lcm_scale.report import compare_page

ALL = People(40, 40, 40, 0, 0, 0, 0)


def row(target: str, metric: str, less: tuple[float, float, float], p_holm: float = 0.2) -> Row:
    value, low, high = less
    standing = "better" if low > 0 else "worse" if high < 0 else "level"
    if metric == "mae":
        standing = {"better": "worse", "worse": "better"}.get(standing, standing)
    first, second = (Metric(metric, 0.7 + d, 0.6, 0.8, 42, 40) for d in (0, value))
    difference = Metric(metric, value, low, high, 42, 40, 0.1)
    deciding = metric in ("auroc", "mae")
    return Row(target, metric, first, second, difference, standing, deciding, p_holm)


def compared(*rows: Row, **changes: object) -> Compared:
    kinds = {r.target: "scalar" if r.metric == "mae" else "class" for r in rows}
    units = {"class": "", "scalar": "years"}
    made = Compared(
        first="plain",
        second="with memory",
        headline=rows[0].target,
        rows=rows,
        targets={name: Told(kind, units[kind], "", ALL) for name, kind in kinds.items()},
        simulated=False,
        optimistic="",
        left_out={},
        tested=(("abide", "aaaa"), ("abide", "aaaa")),
        sets=({"abide": "aaaa"}, {"abide": "aaaa"}),
        protocols=("5 folds.", "5 folds."),
        recipes={},
        grouped="",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def page_of(c: Compared, folder: Path) -> str:
    return compare_page.write(c, folder).read_text()


@pytest.mark.parametrize(
    ("less", "standing", "said"),
    [
        ((0.05, 0.01, 0.09), "ahead", "with memory beats plain on diagnosis"),
        ((-0.05, -0.09, -0.01), "behind", "plain beats with memory on diagnosis"),
        ((0.05, -0.01, 0.09), "level", "No difference can be shown on diagnosis"),
        ((np.nan, np.nan, np.nan), "level", "No difference can be shown on diagnosis"),
    ],
)
def test_who_is_ahead_is_read_from_the_interval(
    less: tuple[float, float, float], standing: str, said: str, tmp_path: Path
) -> None:
    c = compared(row("diagnosis", "auroc", less))
    found = compare_page.verdict(c, c.deciding[0])
    assert found.standing == standing and found.sentence.startswith(said)
    assert "42 predictions of 40 people" in found.sentence and "[0.600, 0.800]" in found.sentence
    page = page_of(c, tmp_path)
    assert f'<section class="card {standing}"' in page and said in page
    assert "same data, people and answers" in page and "At a glance" not in page


def test_a_smaller_error_is_better_and_holm_is_said_of_a_lead() -> None:
    c = compared(
        row("diagnosis", "auroc", (0.0, -0.1, 0.1), 0.9),
        row("age", "mae", (-0.5, -0.9, -0.1), 0.01),
    )
    age = compare_page.verdict(c, c.deciding[1])
    assert age.standing == "ahead" and "mean absolute error in years" in age.sentence
    assert "It holds when corrected for 2 targets (p = .010, Holm)" in age.detail
    weak = replace(c, rows=(c.rows[0], replace(c.rows[1], p_holm=0.08)))
    assert "It does not hold" in compare_page.verdict(weak, weak.deciding[1]).detail
    assert "Holm" not in compare_page.verdict(c, c.deciding[0]).detail


def test_no_lead_is_read_from_an_optimistic_protocol(tmp_path: Path) -> None:
    c = compared(row("diagnosis", "auroc", (0.05, 0.01, 0.09)), optimistic="The epoch was chosen.")
    page = page_of(replace(c, simulated=True), tmp_path)
    assert "beats" not in page and "The epoch was chosen." in page
    assert re.search("<title>SIMULATED · OPTIMISTIC", page)
    assert all("OPTIMISTIC" in alt for alt in re.findall(r'alt="([^"]*)"', page))


def test_other_data_people_sets_and_recipes_are_named(tmp_path: Path) -> None:
    people = People(40, 39, 36, 2, 1, 1, 1)
    c = compared(row("diagnosis", "auroc", (0.0, -0.1, 0.1)))
    c = replace(
        c,
        targets={"diagnosis": Told("class", "", "told by site", people)},
        tested=(("abide", "aaaa"), ("abide-200", "bbbb")),
        sets=({"abide": "aaaa"}, {"abide-200": "bbbb", "ppmi": "cccc"}),
        recipes={"init_from": (None, "/somewhere/of/ours/pretrained")},
        left_out={"age": "in one of the two alone"},
        grouped="family",
    )
    page = page_of(c, tmp_path)
    for said in (
        "The data differ: plain was evaluated on abide (fingerprint aaaa)",
        "Diagnosis: 36 people are compared (plain was asked of 40, with memory of 39)",
        "2 in plain alone, 1 in with memory alone, 1 with another number of scans, 1 with another "
        "answer",
        "plain was given none, with memory ppmi (cccc)",
        "evaluate.group=family",
        "Age was not compared: in one of the two alone.",
        "told by site",
        '<td data-label="plain">not set</td><td data-label="with memory">pretrained</td>',
    ):
        assert said in page, said
    assert "somewhere" not in page and page.count("CONFOUNDED") >= 3
    assert "somewhere" not in (tmp_path / "compare.json").read_text()


def test_every_number_stands_in_csv_and_json_and_each_target_has_a_picture(tmp_path: Path) -> None:
    c = compared(
        row("a/b", "auroc", (0.0, -0.1, 0.1)),
        row("a/b", "brier", (np.nan, np.nan, np.nan)),
        row("age", "mae", (-0.5, -0.9, -0.1)),
    )
    (tmp_path / "compare-old.png").write_bytes(b"")
    page = page_of(c, tmp_path)
    assert "At a glance" in page and page.count("<img") == 3 and "<script" not in page
    written = {p.name for p in tmp_path.iterdir()}
    stems = ("compare_all", "compare-a_b", "compare-age")
    pictures = {f"{stem}.{ending}" for stem in stems for ending in ("png", "svg", "csv")}
    assert written == pictures | {"compare.html", "compare.csv", "compare.json"}
    rows = list(csv.DictReader((tmp_path / "compare.csv").open()))
    told = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert [r["metric"] for r in rows] == [r["metric"] for r in told] == ["auroc", "brier", "mae"]
    assert told[1]["difference"] is None and told[2]["difference_low"] == -0.9
    assert float(rows[2]["second_high"]) == 0.8 and rows[2]["n_subjects"] == "40"


def test_names_of_others_open_no_tag(tmp_path: Path) -> None:
    c = compared(row("<b>x", "auroc", (0.0, -0.1, 0.1)), second="<script>")
    assert "<script>" not in page_of(c, tmp_path) and "<b>x" not in page_of(c, tmp_path)
