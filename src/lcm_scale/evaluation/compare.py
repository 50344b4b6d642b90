"""Two evaluated runs beside each other: every metric of the second less that of the first, paired
over the people whom both were asked about.

In: the `results.json` and `predictions.csv` that `evaluate` leaves in a run's folder. Only runs on
the same folds of the same scans can be paired: otherwise their training people differ, and so would
what is resampled.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale import checked
from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import METRICS, Metric, Predictions, resampled
from lcm_scale.evaluation.paired import standing

RESULTS, PREDICTIONS = "results.json", "predictions.csv"
LARGEST = 2**30  # bytes of predictions
ADVICE = "name a run that `lcm-scale evaluate` wrote"
SEED = 0


@dataclass(frozen=True)
class Row:
    """One metric of one target.

    Attributes:
        first, second: of the two runs.   difference: second less first, paired.
        standing: of the second, `better`, `worse` or `level`.   deciding: it says who wins.
    """

    target: str
    metric: str
    first: Metric
    second: Metric
    difference: Metric
    standing: str
    deciding: bool


@dataclass(frozen=True)
class Compared:
    """Attributes: rows: by target, the metrics in their order.   simulated: the scans are.
    optimistic: why the numbers are too good, or ''.   left_out: targets that one run alone has."""

    rows: tuple[Row, ...]
    simulated: bool
    optimistic: str
    left_out: tuple[str, ...]


def compare(first: Path, second: Path, bootstrap: int = 2000) -> Compared:
    """Compare two runs.

    Args: bootstrap: resamples of people.
    Raises: InputError where a folder holds no evaluation, no target is in both, or the runs are not
        of the same folds of the same scans.
    """
    about = _about(second), _about(first)
    ours, theirs = ({t["target"]: t for t in each["targets"]} for each in about)
    mine, other = _predictions(second, ours), _predictions(first, theirs)
    shared = [name for name in other if name in mine]
    if not shared:
        raise InputError(
            f"{second}: no target is in both runs ({', '.join(mine)} here, {', '.join(other)} in "
            f"{first})"
        )
    rows: list[Row] = []
    for name in shared:
        _refuse_other_scans(second, mine[name], first, other[name])
        drawn, base = (resampled(each, bootstrap, SEED) for each in (mine[name], other[name]))
        deciding = ours[name]["deciding"]
        for a, b, less in zip(base.metrics(), drawn.metrics(), drawn.minus(base), strict=True):
            kind = METRICS[mine[name].kind][less.name]
            found = standing(less, kind)
            rows.append(Row(name, less.name, a, b, less, found, less.name == deciding))
    alone = [name for name in [*mine, *other] if name not in shared]
    return Compared(
        tuple(rows),
        any(each["simulated"] for each in about),
        next((each["optimistic"] for each in about if each.get("optimistic")), ""),
        tuple(alone),
    )


def rows_of(compared: Compared) -> Iterator[dict[str, Any]]:
    """As the rows of a table file."""
    for row in compared.rows:
        yield {
            "target": row.target,
            "simulated": compared.simulated,
            "optimistic": bool(compared.optimistic),
            "metric": row.metric,
            "first": row.first.value,
            "second": row.second.value,
            "difference": row.difference.value,
            "low": row.difference.low,
            "high": row.difference.high,
            "standing": row.standing,
            "n_scans": row.difference.n_scans,
            "n_subjects": row.difference.n_subjects,
        }


def _about(folder: Path) -> dict[str, Any]:
    """What `results.json` says, as far as it is needed here."""
    file = folder / RESULTS
    with checked.damage_named(file, "not the results of an evaluation", ADVICE):
        own = checked.members(checked.read_object(file), "it", ("simulated", "targets"))
        checked.flag(own["simulated"], "simulated")
        checked.text(own.get("optimistic", ""), "optimistic")
        return {**own, "targets": checked.entries(own["targets"], "targets", _target)}


def _target(value: object, name: str) -> dict[str, Any]:
    own = checked.members(value, name, ("target", "kind", "categories", "model"))
    checked.text(own["target"], f"{name}.target")
    checked.choice(own["kind"], f"{name}.kind", tuple(METRICS))
    checked.choice(own.get("deciding"), f"{name}.deciding", tuple(METRICS[own["kind"]]))
    checked.entries(own["categories"], f"{name}.categories", checked.text)
    checked.text(own["model"], f"{name}.model")
    return own


def _predictions(folder: Path, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Predictions]:
    """The model's own, of each target, in the order of the scans."""
    file = folder / PREDICTIONS
    if not file.is_file():
        raise InputError(f"{file}: not there; {ADVICE}")
    if file.stat().st_size > LARGEST:
        raise InputError(f"{file}: larger than {LARGEST // 2**20} MB")
    try:
        kept = _rows(file, results)
        return {name: _of_target(name, results[name], rows) for name, rows in kept.items() if rows}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        found = " ".join(str(error).split())[:200]
        raise InputError(
            f"{file}: not the predictions of an evaluation ({found}); {ADVICE}"
        ) from error


def _rows(file: Path, results: Mapping[str, Mapping[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """Those of each target's own model."""
    kept: dict[str, list[dict[str, str]]] = {name: [] for name in results}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            own = results.get(row["target"])
            if own is not None and row["model"] == own["model"]:
                kept[row["target"]].append(row)
    return kept


def _of_target(name: str, own: Mapping[str, Any], rows: list[dict[str, str]]) -> Predictions:
    rows = sorted(rows, key=lambda row: (int(row["scan"]), int(row["fold"])))
    categories = tuple(own["categories"])
    if own["kind"] == "class":
        truth = np.array([categories.index(_word(row["truth"], categories)) for row in rows])
        scores = np.array([_scores(row["scores"], categories) for row in rows])
    else:
        truth = np.array([float(row["truth"]) for row in rows])
        scores = np.array([float(row["predicted"]) for row in rows])
    return Predictions(
        model=own["model"],
        target=name,
        kind=own["kind"],
        categories=categories or (name,),
        truth=truth,
        scores=scores,
        subject=np.array([row["subject"] for row in rows]),
        fold=np.array([int(row["fold"]) for row in rows]),
        scan=np.array([int(row["scan"]) for row in rows]),
    )


def _word(text: str, starts: tuple[str, ...]) -> str:
    """Without the mark that keeps a spreadsheet from running it (`csv_text`)."""
    return text if text.startswith(starts) else text.removeprefix("'")


def _scores(text: str, categories: tuple[str, ...]) -> list[float]:
    """``a=0.2;b=0.8``, where names may hold either mark themselves."""
    found = []
    text = _word(text, categories[:1])
    for place, category in enumerate(categories):
        if not text.startswith(f"{category}="):
            raise ValueError(f"expected a probability of {category}")
        text = text[len(category) + 1 :]
        end = text.index(f";{categories[place + 1]}=") if place + 1 < len(categories) else len(text)
        found.append(float(text[:end]))
        text = text[end + 1 :]
    return found


def _refuse_other_scans(here: Path, mine: Predictions, there: Path, other: Predictions) -> None:
    name = mine.target
    if mine.kind != other.kind or mine.categories != other.categories:
        raise InputError(
            f"{here}: {name} has other categories than in {there} "
            f"({', '.join(mine.categories)}; {', '.join(other.categories)})"
        )
    a, b = ({*zip(p.subject, p.scan, strict=True)} for p in (mine, other))
    if a != b:
        raise InputError(
            f"{here}: {name} was asked of other scans than in {there}: {len(a - b)} are here "
            f"alone, {len(b - a)} there alone; evaluate both with the same sets, unit and salt"
        )
    if not np.array_equal(mine.truth, other.truth):
        changed = int((mine.truth != other.truth).sum())
        raise InputError(f"{here}: {name} has other answers than in {there} for {changed} scans")
    if not np.array_equal(mine.fold, other.fold):
        raise InputError(
            f"{here}: other folds than in {there}, so the two were trained on other people; give "
            "both the same evaluate.protocol, folds, seed and stratify"
        )


def as_json(compared: Compared, first: Path, second: Path) -> str:
    """The comparison as a file."""
    facts = {"first": first.name, "second": second.name, "optimistic": compared.optimistic}
    return json.dumps({**facts, "rows": list(rows_of(compared))}, indent=1) + "\n"
