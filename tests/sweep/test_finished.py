"""What a point left in its folder, damaged or made by a stranger: one line."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.errors import InputError
from lcm_scale.sweep import finished
from lcm_scale.sweep.finished import ALL, read_failure, read_predictions, read_result

METRIC = {"target": "age", "metric": "r2", "value": 0.5}
FACTS = {
    "format": "lcm-scale-point/1",
    "simulated": True,
    "vocabulary": "0" * 16,
    "people": 12,
    "people_held_out": 5,
    "scans": 12,
    "loss": 1.0,
    "chance": 2.0,
    "metrics": [METRIC],
    "losses": {"age": 1.0},
    "weights": {"age": 1.0},
    "seconds": 1.0,
}


def put(folder: Path, **changes: Any) -> Path:
    (folder / "point.json").write_text(json.dumps({**FACTS, **changes}))
    return folder


def test_numbers_that_are_none_are_told_apart_from_damage(tmp_path: Path) -> None:
    assert read_result(put(tmp_path), ALL)["loss"] == 1.0
    assert read_result(put(tmp_path, loss=math.nan), ALL)["loss"] is None
    assert read_result(put(tmp_path, loss=None), ALL)["loss"] is None
    facts = read_result(put(tmp_path, losses={"age": None}, metrics=[{**METRIC, "value": None}]))
    assert math.isnan(facts["losses"]["age"]) and math.isnan(facts["metrics"][0]["value"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "low"}, "loss: expected a number"),
        ({"chance": []}, "chance: expected a number"),
        ({"metrics": 3}, "metrics: expected a list"),
        ({"metrics": [3]}, r"metrics\[0\]: expected an object"),
        ({"metrics": [{"target": "age"}]}, r"metrics\[0\] has no metric"),
        ({"epochs": -1}, "epochs: expected a whole number"),
        ({"people": 1.5}, "people: expected a whole number"),
        ({"losses": [1]}, "losses: expected an object"),
        ({"weights": {}}, "weights: expected those of all losses"),
        ({"vocabulary": {}}, "vocabulary: expected text"),
        ({"seconds": "1"}, "seconds: expected a number"),
    ],
)
def test_a_wrong_fact_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"point\.json: damaged \({message}.*; remove that") as e:
        read_result(put(tmp_path, **changes), ALL)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text", ["", "[]", '{"reason": 3}', "{}", '{"reason": "\\ud800"}'])
def test_a_damaged_reason_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "failed.json").write_text(text)
    with pytest.raises(InputError, match=r"failed\.json: damaged \("):
        read_failure(tmp_path)


def predictions(folder: Path, **arrays: np.ndarray) -> Path:
    packed = io.BytesIO()
    whole = {"scores: age": np.zeros((5, 3), np.float32), "truth: age": np.zeros(5)}
    np.savez_compressed(packed, **{**whole, **arrays})
    (folder / "predictions.npz").write_bytes(packed.getvalue())
    return folder


def test_predictions_are_read(tmp_path: Path) -> None:
    scores, truth = read_predictions(predictions(tmp_path), ["age"])["age"]
    assert scores.shape == (5, 3) and truth.shape == (5,)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"truth: age": np.full(5, 3.0)}, "an answer that is none of 3"),
        ({"truth: age": np.full(5, 0.5)}, "an answer that is none of 3"),
        ({"truth: age": np.zeros(4)}, r"truth of shape \(4,\)"),
        ({"truth: age": np.zeros(())}, r"truth of shape \(\)"),
        ({"scores: age": np.zeros((5, 3, 1))}, r"scores of \(5, 3, 1\)"),
        ({"scores: age": np.array(["x"] * 5)}, "scores: age: <U1 of shape"),
        ({"scores: age": np.zeros((2**16, 5), np.float32)}, "unpack to more than 1,048,576"),
    ],
)
def test_predictions_that_cannot_be_are_named(
    arrays: dict[str, np.ndarray],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finished, "LARGEST_UNPACKED", 2**20)
    with pytest.raises(InputError, match=rf"predictions\.npz: damaged .*{message}"):
        read_predictions(predictions(tmp_path, **arrays), ["age"])


def test_predictions_that_are_missing_or_no_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"predictions\.npz: cannot be read"):
        read_predictions(tmp_path, ["age"])
    (tmp_path / "predictions.npz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"predictions\.npz: damaged"):
        read_predictions(tmp_path, ["age"])
