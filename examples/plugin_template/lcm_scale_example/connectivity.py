"""A connectivity: the rank correlation of two regions, which outliers hardly move."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def spearman(series: np.ndarray) -> np.ndarray:
    """Spearman correlation of the columns.

    Args: series: (T, R) float64; none of the regions is constant or has NaN.
    Returns: (R, R), symmetric, within -1..1.
    """
    return np.corrcoef(rankdata(series, axis=0), rowvar=False)
