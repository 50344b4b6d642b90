"""What a point of a sweep leaves in its folder: written here, and read as a file that anybody may
have written, since sweeps are handed on whole, and years later.

`point.json` holds what was measured and is written last: where it is, the point is done.
`failed.json` holds why nothing was measured, `predictions.npz` the answers to the held-out scans.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale import checked
from lcm_scale.data import stored
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic

FORMAT = "lcm-scale-point/1"
RESULT, PREDICTIONS, FAILED = "point.json", "predictions.npz", "failed.json"
SHOWN = ("loss", "chance", "metrics")  # what `sweep status` needs; `sweep fit` needs ALL
ALL = (
    *("format", "simulated", "vocabulary", "people", "people_held_out", "scans"),
    *(*SHOWN, "losses", "seconds"),
)
COUNTS = (
    *("people", "people_labelled", "validation_labelled", "people_held_out"),
    *("scans", "epochs", "steps"),
    *("parameters", "parameters_body"),
)
LARGEST = 2**53  # the whole numbers that every JSON reader keeps
LARGEST_UNPACKED = 2**30  # bytes of predictions: a million scans with 250 answers
AGAIN = "remove that folder and run the sweep again"

Answers = dict[str, tuple[np.ndarray, np.ndarray]]


def is_finished(folder: Path) -> bool:
    return (folder / RESULT).is_file()


def write_result(folder: Path, facts: Mapping[str, Any]) -> None:
    """Raises: InputError where it cannot be written."""
    write_atomic(folder / RESULT, json.dumps(facts, indent=1).encode())


def write_predictions(
    folder: Path, scans: np.ndarray, subjects: np.ndarray, answers: Answers
) -> None:
    """Args: scans, subjects: (n,) numbers of the held-out scans and their people.
    Raises: InputError where it cannot be written."""
    arrays: dict[str, Any] = {"scan": scans, "subject": subjects}
    for name, (scores, truth) in answers.items():
        arrays[f"scores: {name}"] = scores.astype(np.float32)
        arrays[f"truth: {name}"] = truth
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    write_atomic(folder / PREDICTIONS, held.getvalue())


def read_result(folder: Path, required: Sequence[str] = SHOWN) -> dict[str, Any]:
    """A finished point's facts; a loss that is no number is None, other such numbers are NaN.

    Raises: InputError where they are damaged, or one that is `required` is missing.
    """
    file = folder / RESULT
    with checked.damage_named(file, "damaged", AGAIN):
        facts = checked.read_object(file)
    if "format" in required and facts.get("format") != FORMAT:
        raise InputError(f"{file}: not a point of this format ({FORMAT}); {AGAIN}")
    with checked.damage_named(file, "damaged", AGAIN):
        return _facts(checked.members(facts, "it", required))


def read_failure(folder: Path) -> str:
    """Why a point failed.  Raises: InputError where that cannot be read."""
    file = folder / FAILED
    with checked.damage_named(file, "damaged", AGAIN):
        own = checked.members(checked.read_object(file), "it", ("reason",))
        return checked.text(own["reason"], "reason")


def read_predictions(folder: Path, targets: Iterable[str]) -> Answers:
    """Target -> scores (n, classes) or values (n,), and the truth (n,), NaN where unknown.

    Raises: InputError where they are missing or damaged.
    """
    file = folder / PREDICTIONS
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); {AGAIN}") from error
    wanted: dict[str, tuple[str, None]] = {
        f"{kind}: {name}": ("<f", None) for name in targets for kind in ("scores", "truth")
    }
    with checked.damage_named(file, "damaged", AGAIN):
        arrays = stored.npz(data, wanted, LARGEST_UNPACKED)
        return {
            name: _answers(arrays[f"scores: {name}"], arrays[f"truth: {name}"], name)
            for name in targets
        }


def _answers(scores: np.ndarray, truth: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    if truth.ndim != 1 or scores.ndim not in (1, 2) or scores.shape[:1] != truth.shape:
        raise InputError(f"{name}: truth of shape {truth.shape}, scores of {scores.shape}")
    if scores.ndim == 2:
        known = truth[~np.isnan(truth)]
        if not ((known >= 0) & (known < scores.shape[1]) & (known == np.floor(known))).all():
            raise InputError(f"{name}: an answer that is none of {scores.shape[1]}")
    return scores, truth


def _facts(own: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = checked.plain(own, "it")
    for key in ("loss", "last_loss", "chance"):
        if key in own:
            facts[key] = _number(own[key], key)
    if math.isnan(facts["loss"]):
        facts["loss"] = None
    for key in COUNTS:
        if key in own:
            checked.whole(own[key], key, 0, LARGEST)
    for key in ("seconds", "flops"):
        if key in own:
            checked.number(own[key], key, 0, 1e300)
    for key in ("losses", "weights"):
        if key in own:
            facts[key] = checked.members(own[key], key, each=_number)
    if "weights" in own and not facts.get("losses", {}).keys() <= facts["weights"].keys():
        raise InputError("weights: expected those of all losses")
    if "simulated" in own:
        checked.flag(own["simulated"], "simulated")
    if "vocabulary" in own:
        checked.text(own["vocabulary"], "vocabulary")
    facts["metrics"] = checked.entries(own["metrics"], "metrics", _metric)
    return facts


def _metric(value: object, name: str) -> dict[str, Any]:
    own = checked.members(value, name, ("target", "metric", "value"))
    for key in ("target", "metric"):
        checked.text(own[key], f"{name}.{key}")
    return {**own, "value": _number(own["value"], f"{name}.value")}


def _number(value: object, name: str) -> float:
    """NaN where it is null: a run may have come to no number."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return math.nan
    return checked.number(value, name, -1e300, 1e300)
