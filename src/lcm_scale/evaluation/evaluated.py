"""An evaluated run, read back from its folder.

In: `results.json`, `predictions.csv` and, where it is there, `evaluation.json`, as `evaluate`
leaves them. Out: what was asked, of which data, and what the model answered of each held-out scan.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale import checked
from lcm_scale.config.fields import dotted
from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import METRICS, Predictions
from lcm_scale.evaluation.offered import deciding_metric

RESULTS, PREDICTIONS, ASKED = "results.json", "predictions.csv", "evaluation.json"
LARGEST = 2**30  # bytes of predictions
ADVICE = "name a run that `lcm-scale evaluate` wrote"


@dataclass(frozen=True)
class Evaluated:
    """An evaluated run.

    Attributes:
        folder: where it lies.   name: the folder's.   simulated: the scans are.
        optimistic: why the numbers are too good, or ''.   protocol: a sentence.
        headline: the target that decides.
        tested: names of the evaluated sets, and their fingerprints, each as one text; '' where an
            older version did not say.
        sets: name -> fingerprint of every set that took part; empty where it is not written down.
        recipe: dotted keys; empty likewise.
        targets: name -> what `results.json` says of it.
        predictions: target -> the model's own, in the order of the scans.
    """

    folder: Path
    name: str
    simulated: bool
    optimistic: str
    protocol: str
    headline: str
    tested: tuple[str, str]
    sets: Mapping[str, str]
    recipe: Mapping[str, Any]
    targets: Mapping[str, Mapping[str, Any]]
    predictions: Mapping[str, Predictions]


def read_evaluated(folder: Path) -> Evaluated:
    """An evaluated run by its folder.

    Raises: InputError where the folder holds no evaluation, or a damaged one.
    """
    file = folder / RESULTS
    with checked.damage_named(file, "not the results of an evaluation", ADVICE):
        own = checked.members(checked.read_object(file), "it", ("simulated", "targets"))
        simulated = checked.flag(own["simulated"], "simulated")
        optimistic, protocol, headline = (
            checked.text(own.get(key, ""), key) for key in ("optimistic", "protocol", "headline")
        )
        data = checked.members(own.get("data", {}), "data")
        names, marks = (
            checked.text(data.get(key, ""), f"data.{key}") for key in ("set", "fingerprint")
        )
        targets = {t["target"]: t for t in checked.entries(own["targets"], "targets", _target)}
    sets, recipe = _asked(folder / ASKED)
    return Evaluated(
        folder=folder,
        name=folder.resolve().name,
        simulated=simulated,
        optimistic=optimistic,
        protocol=protocol,
        headline=headline,
        tested=(names, marks),
        sets=sets,
        recipe=recipe,
        targets=targets,
        predictions=_predictions(folder / PREDICTIONS, targets),
    )


def _asked(file: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The sets' fingerprints and the recipe; nothing where there is no such file."""
    if not file.is_file():
        return {}, {}
    with checked.damage_named(file, "not what an evaluation was asked", ADVICE):
        own = checked.members(checked.read_object(file), "it", ("recipe", "fingerprints"))
        sets = checked.members(own["fingerprints"], "fingerprints", each=checked.text)
        recipe = checked.members(checked.plain(own["recipe"], "recipe"), "recipe")
    return sets, dotted(recipe)


def _target(value: object, name: str) -> dict[str, Any]:
    own = checked.members(value, name, ("target", "kind", "categories", "model"))
    checked.text(own["target"], f"{name}.target")
    checked.choice(own["kind"], f"{name}.kind", tuple(METRICS))
    deciding_metric(own["kind"], own.get("deciding"), f"{name}.deciding")
    checked.entries(own["categories"], f"{name}.categories", checked.text)
    checked.text(own["model"], f"{name}.model")
    checked.text(own.get("unit", ""), f"{name}.unit")
    checked.text(own.get("confounded") or "", f"{name}.confounded")
    return own


def _predictions(file: Path, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Predictions]:
    """The model's own, of each target, in the order of the scans."""
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
