"""Small connectomes with a planted effect, as edges and as inner products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lcm_scale.linear.problem import Problem

REGIONS = 12


@pytest.fixture(scope="session")
def correlations() -> Callable[..., np.ndarray]:
    """A function: (n, E) correlations of random series; `effect` (n,) strengthens the coupling of
    the first four regions."""

    def make(n: int, seed: int = 0, effect: np.ndarray | None = None) -> np.ndarray:
        rng = np.random.default_rng(seed)
        series = rng.normal(size=(n, 60, REGIONS)) + 0.8 * rng.normal(size=(n, 60, 1))
        if effect is not None:
            series[:, :, :4] += effect[:, None, None] * rng.normal(size=(n, 60, 1))
        rows, columns = np.triu_indices(REGIONS, 1)
        return np.stack([np.corrcoef(s.T)[rows, columns] for s in series]).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def problem(
    correlations: Callable[..., np.ndarray],
) -> Callable[..., tuple[Problem, np.ndarray, np.ndarray]]:
    """A function: a two-class problem as inner products, and the features behind it, scaled
    alike."""

    def make(n: int = 90, m: int = 30, seed: int = 0) -> tuple[Problem, np.ndarray, np.ndarray]:
        truth = np.random.default_rng(seed).permutation(np.arange(n + m) % 2)
        z = np.arctanh(correlations(n + m, seed, 0.7 * truth).astype(np.float64))
        train, test = z[:n] - z[:n].mean(0), z[n:] - z[:n].mean(0)
        scale = np.sqrt((train**2).sum(1).mean())
        train, test = train / scale, test / scale
        p = Problem(train @ train.T, test @ train.T, truth[:n], np.arange(n), 2, seed)
        return p, train, test

    return make
