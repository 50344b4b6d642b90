"""A metric: Cohen's kappa, agreement beyond chance."""

from __future__ import annotations

import numpy as np

from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.offered import OfferedMetric


def kappa(p: Predictions, weights: np.ndarray) -> np.ndarray:
    """Under every weighting of the scans, as bootstrap resamples are.

    Args: weights: (B, N).   Returns: (B,), NaN where chance alone would always agree.
    """
    classes = range(len(p.categories))
    total = weights.sum(1)
    agreed = weights @ (p.predicted == p.truth) / total
    expected = sum((weights @ (p.truth == c)) * (weights @ (p.predicted == c)) for c in classes)
    chance = expected / total**2
    return np.where(chance < 1, (agreed - chance) / np.maximum(1 - chance, 1e-12), np.nan)


KAPPA = OfferedMetric(
    label="Cohen's kappa", compute=kappa, higher_is_better=True, ideal=1, of="class"
)
