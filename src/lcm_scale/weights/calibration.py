"""The map from a model's own probabilities to calibrated ones, as it is stored beside the weights.

It never falls: of two classes it keeps who is ranked before whom, but for ties. Fitting it is
evaluation's business (`evaluation.calibrate`).
Shapes: n scans, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from lcm_scale import checked
from lcm_scale.errors import InputError

LARGEST = 20.0  # temperature, and one over the smallest
MOST_STEPS = 100_000  # of a curve, in a stranger's file
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Calibration:
    """Of one target.

    Attributes:
        temperature: over which the logits are taken; 1 changes nothing.
        steps: of two classes, (probability, calibrated probability) of the second, both rising,
            with straight lines between them; empty: none, the temperature counts.
    Raises: InputError where a value is not of this form.
    """

    temperature: float = 1.0
    steps: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        checked.number(self.temperature, "calibration: temperature", 1 / LARGEST, LARGEST)
        for step in self.steps:
            for value in step:
                checked.number(value, "calibration: steps", 0, 1)
        for (x, y), (later, above) in zip(self.steps, self.steps[1:], strict=False):
            if later < x or above < y:
                raise InputError("calibration: steps: expected them rising")

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """(n, C) probabilities, calibrated."""
        if self.steps:
            own, calibrated = zip(*self.steps, strict=True)
            up = np.interp(probabilities[:, 1], own, calibrated)
            return np.stack([1 - up, up], axis=1)
        return np.asarray(softmax(logits(probabilities) / self.temperature, axis=1))

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        if self.steps:
            return {"steps": [list(step) for step in self.steps]}
        return {"temperature": self.temperature}

    @classmethod
    def from_json(cls, value: object, name: str) -> Calibration:
        """From a file's plain values.  Raises: InputError."""
        own = checked.members(value, name)
        steps = checked.entries(own.get("steps", ()), f"{name}.steps", _pair)
        if len(steps) > MOST_STEPS:
            raise InputError(f"{name}.steps: expected at most {MOST_STEPS:,}, found {len(steps):,}")
        return cls(checked.number(own.get("temperature", 1.0), f"{name}.temperature"), steps)


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Their logarithms in double precision; none is minus infinity."""
    return np.log(np.maximum(probabilities.astype(np.float64), LEAST_PROBABILITY))


def _pair(value: object, name: str) -> tuple[float, float]:
    own, calibrated = checked.entries(value, name, checked.number, 2)
    return own, calibrated
