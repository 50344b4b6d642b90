"""The page of an ablation: the verdict by part, in the reports' one look."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lcm_scale.evaluation.metrics import Metric
from lcm_scale.evaluation.paired import Compared
from lcm_scale.report.ablation_page import Ablated, Row, TargetTable, changed, verdict, write

CHANGES: Mapping[str, Mapping[str, tuple[Any, Any]]] = {
    "base": {},
    "from scratch": {"init_from": ("weights", None)},
    "no memory": {"model.people_memory": ("linear", "none")},
    "no context": {"model.context": (["site"], [])},
    "smaller": {"model.width": (128, 64)},
    "neither": {"init_from": ("weights", None), "model.people_memory": ("linear", "none")},
}


def row(name: str, less: float | None, baseline: bool = False) -> Row:
    value = Metric("auroc", 0.7 + (less or 0), 0.6, 0.8, 40, 40)
    difference = less if less is None else Metric("auroc", less, less - 0.02, less + 0.02, 40, 40)
    return Row(name, baseline, {"auroc": Compared(value, difference, (0.01, 0.02))})


def ablated(**differences: float) -> Ablated:
    """Args: of each variant ('_' for a space) its difference from the base, give or take .02."""
    named = {name.replace("_", " "): less for name, less in differences.items()}
    rows = (row("base", None), *(row(*each) for each in named.items()), row("linear", -0.3, True))
    changes = {name: CHANGES[name] for name in ("base", *named)}
    table = TargetTable("diagnosis", "class", "auroc", None, "", rows)
    return Ablated("Parts", False, 5, 7, (0, 1), (table,), changes, ())


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ({"from_scratch": -0.1, "no_memory": -0.05}, "What wins: pretraining, people memory."),
        ({"no_context": 0.01}, "What adds nothing that can be shown: context."),
        ({"no_memory": 0.05}, "What does harm: people memory."),
    ],
)
def test_the_verdict_names_what_wins_by_what_is_lost_without_it(
    differences: dict[str, float], said: str
) -> None:
    assert verdict(ablated(**differences)).endswith(said)


def test_a_variant_that_changes_something_else_or_more_names_no_part() -> None:
    told = verdict(ablated(smaller=-0.1, neither=-0.1))
    assert "Worse than it: smaller" in told and "What wins" not in told


def test_an_empty_list_is_none_of_the_context_and_all_of_the_targets() -> None:
    assert changed(CHANGES["no context"]) == "model.context: site to none"
    assert changed({"data.targets": (["age"], [])}) == "data.targets: age to all"


def test_each_target_has_a_figure_with_its_files_and_rows_become_cards(tmp_path: Path) -> None:
    page = write(ablated(no_memory=-0.1, smaller=0.0), tmp_path).read_text()
    written = {path.name for path in tmp_path.iterdir()}
    files = {f"ablation-diagnosis.{ending}" for ending in ("png", "svg", "csv")}
    assert written == files | {f"ablation.{ending}" for ending in ("html", "csv", "json")}
    assert all(f'href="{file}"' in page for file in files)
    rows = list(csv.DictReader((tmp_path / "ablation-diagnosis.csv").open()))
    assert [r["variant"] for r in rows] == ["no memory", "smaller", "linear"]
    assert float(rows[0]["difference_low"]) == pytest.approx(-0.12)
    cells = re.findall(r"<td([^>]*)>(.*?)</td>", page, re.DOTALL)
    assert all("data-label=" in about for about, inner in cells if inner.strip())
