"""What a run of an ablation leaves beside its report: its held-out answers, whole, to be paired
with those of other runs. `answers.json` is written last: where it is, the run is done.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale import checked
from lcm_scale.data import stored
from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import METRICS, Predictions
from lcm_scale.evaluation.offered import deciding_metric
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.evaluation.questions import evaluated_set
from lcm_scale.evaluation.results import Report
from lcm_scale.files import write_atomic

FORMAT = "lcm-scale-answers/1"
ANSWERS, ARRAYS = "answers.json", "answers.npz"
LARGEST = 2**30  # bytes of arrays
AGAIN = "remove that folder and run the ablation again"


@dataclass(frozen=True)
class Asked:
    """One target's held-out answers.

    Attributes:
        deciding: the metric that says who wins.   confounded: why it must not be believed, or None.
        models: name -> predictions, the model first, then the baselines; scans are numbered within
            the evaluated set, people by their order among them.
    """

    target: str
    deciding: str
    confounded: str | None
    unit: str
    models: Mapping[str, Predictions]


@dataclass(frozen=True)
class Answered:
    """A finished run.

    Attributes: mark: of the folds and scans that were asked.
    """

    mark: str
    simulated: bool
    targets: tuple[Asked, ...]


def is_finished(folder: Path) -> bool:
    return (folder / ANSWERS).is_file()


def mark_of(prepared: PreparedEvaluation) -> str:
    """By which evaluations on the same folds of the same scans are known, whatever other sets they
    train on."""
    sets, recipe = prepared.opened.sets, prepared.recipe
    name = evaluated_set(recipe, sets)
    tests = [fold.test.tolist() for fold in prepared.folds]
    facts = [sets.fingerprints[name], recipe.evaluate.unit, tests]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def write(prepared: PreparedEvaluation, report: Report) -> None:
    """Raises: InputError where it cannot be written."""
    arrays: dict[str, Any] = {}
    targets = []
    for number, target in enumerate(report.targets):
        # The model's parts are in the run's own report; what is left are the baselines.
        models = {p.model: p for p in target.predictions if p.model not in target.parts}
        first = models[target.model]
        arrays[f"{number} truth"] = first.truth.astype(np.float64)
        arrays[f"{number} fold"] = first.fold.astype(np.int64)
        arrays[f"{number} scan"] = (first.scan - prepared.scans[0]).astype(np.int64)
        arrays[f"{number} subject"] = np.unique(first.subject, return_inverse=True)[1]
        for place, one in enumerate(models.values()):
            arrays[f"{number} scores {place}"] = one.scores.astype(np.float64)
        told = ("target", "kind", "categories", "deciding", "confounded", "unit")
        targets.append({**{key: getattr(target, key) for key in told}, "models": list(models)})
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    write_atomic(prepared.folder / ARRAYS, held.getvalue())
    facts = {"format": FORMAT, "mark": mark_of(prepared), "simulated": report.simulated}
    text = json.dumps({**facts, "targets": targets}, indent=1)
    write_atomic(prepared.folder / ANSWERS, text.encode())


def read_mark(folder: Path) -> str:
    """Raises: InputError as `read`."""
    return checked.text(_facts(folder)["mark"], "mark")


def read(folder: Path) -> Answered:
    """Raises: InputError where the files are missing or damaged."""
    facts = _facts(folder)
    file = folder / ARRAYS
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); {AGAIN}") from error
    with checked.damage_named(file, "damaged", AGAIN):
        listed = checked.entries(facts["targets"], "targets", checked.members)
        return Answered(
            checked.text(facts["mark"], "mark"),
            checked.flag(facts["simulated"], "simulated"),
            tuple(_target(data, number, own) for number, own in enumerate(listed)),
        )


def _facts(folder: Path) -> dict[str, Any]:
    file = folder / ANSWERS
    with checked.damage_named(file, "damaged", AGAIN):
        facts = checked.read_object(file)
        checked.choice(facts.get("format"), "format", (FORMAT,))
        return checked.members(facts, "it", ("mark", "simulated", "targets"))


def _target(data: bytes, number: int, stated: Mapping[str, Any]) -> Asked:
    keys = ("target", "kind", "categories", "deciding", "confounded", "unit", "models")
    own = checked.members(stated, f"targets[{number}]", keys)
    kind = checked.choice(own["kind"], "kind", tuple(METRICS))
    categories = checked.entries(own["categories"], "categories", checked.text)
    names = checked.entries(own["models"], "models", checked.text)
    columns = {"truth": "<f8", "fold": "<i8", "scan": "<i8", "subject": "<i8"}
    wanted: dict[str, tuple[str, stored.Shape]] = {
        f"{number} {key}": (dtype, (None,)) for key, dtype in columns.items()
    }
    shape: stored.Shape = (None, len(categories)) if kind == "class" else (None,)
    wanted |= {f"{number} scores {place}": ("<f8", shape) for place in range(len(names))}
    arrays = stored.npz(data, wanted, LARGEST)
    if len({len(array) for array in arrays.values()}) > 1:
        raise InputError(f"target {number}: arrays of different lengths")
    told = {key: arrays[f"{number} {key}"] for key in columns}
    if kind == "class":
        if not np.isin(told["truth"], range(len(categories))).all():
            raise InputError(f"target {number}: an answer that is none of {len(categories)}")
        told["truth"] = told["truth"].astype(np.int64)
    target = checked.text(own["target"], "target")
    models = {
        model: Predictions(
            model, target, kind, categories, scores=arrays[f"{number} scores {place}"], **told
        )
        for place, model in enumerate(names)
    }
    confounded = own["confounded"]
    return Asked(
        target,
        deciding_metric(kind, own["deciding"], "deciding"),
        None if confounded is None else checked.text(confounded, "confounded"),
        checked.text(own["unit"], "unit"),
        models,
    )
