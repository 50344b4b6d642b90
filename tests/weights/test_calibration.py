"""The stored map: plain values there and back, and what is no map is one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lcm_scale.errors import InputError
from lcm_scale.weights.calibration import Calibration

STEPS = Calibration(steps=((0.1, 0.0), (0.5, 0.4), (0.5, 0.6), (0.9, 1.0)))


@pytest.mark.parametrize("made", [Calibration(2.5), STEPS])
def test_it_comes_back_from_json_as_it_was(made: Calibration) -> None:
    assert Calibration.from_json(json.loads(json.dumps(made.to_json())), "x") == made


def test_a_temperature_divides_logits_and_steps_are_joined_by_lines() -> None:
    p = np.array([[0.2, 0.8], [0.5, 0.5]])
    np.testing.assert_allclose(Calibration(1.0)(p), p)
    np.testing.assert_allclose(Calibration(2.0)(p)[0], [1 / 3, 2 / 3])
    up = np.array([0.0, 0.3, 0.7, 1.0])
    np.testing.assert_allclose(STEPS(np.c_[1 - up, up])[:, 1], [0, 0.2, 0.8, 1])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"temperature": 0}, "temperature: expected a number from 0.05 to 20, found 0"),
        ({"temperature": float("nan")}, "temperature: expected a number"),
        ({"steps": [[0.5, 0.5], [0.4, 0.6]]}, "steps: expected them rising"),
        ({"steps": [[0.1, 0.5], [0.4, 0.2]]}, "steps: expected them rising"),
        ({"steps": [[0.1, 1.5]]}, "steps: expected a number from 0 to 1, found 1.5"),
        ({"steps": [[0, 0]] * 100_001}, "at most 100,000"),
        ([1], "x: expected an object"),
    ],
)
def test_what_a_stranger_wrote_is_refused(value: object, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Calibration.from_json(value, "x")
