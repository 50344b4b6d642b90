"""Many tests at once: Holm's correction (1979), which holds however they depend on each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

K = TypeVar("K")


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Each p so adjusted that to call those below .05 real is wrong, once or more often, in at most
    5 % of such families of tests. A p that is NaN was no test: it stays so and does not count."""
    adjusted = dict.fromkeys(p_values, float("nan"))
    tested = sorted((p, number, key) for number, (key, p) in enumerate(p_values.items()) if p == p)
    least = 0.0
    for place, (p, _, key) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - place) * p))
        adjusted[key] = least
    return adjusted


def clear(p: float) -> bool:
    """Whether a p, adjusted or not, is below .05; NaN is not."""
    return bool(np.nan_to_num(p, nan=1.0) < 0.05)
