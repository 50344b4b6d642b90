"""Predictions of simulated people."""

from __future__ import annotations

import numpy as np

from lcm_scale.evaluation.metrics import METRICS, Predictions


def classes(
    n: int = 200, n_classes: int = 2, skill: float = 1.0, seed: int = 0, n_folds: int = 1
) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.choice(
        n_classes, n, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum()
    )
    logits = rng.normal(size=(n, n_classes)) + skill * np.eye(n_classes)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    names = tuple("abcdefgh"[:n_classes])
    return Predictions(
        "LCM",
        "diagnosis",
        "class",
        names,
        truth,
        scores,
        np.arange(n),
        np.arange(n) % n_folds,
        np.arange(n),
    )


def values(n: int = 200, noise: float = 5.0, seed: int = 0, n_folds: int = 1) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(10, 60, n)
    scores = truth + rng.normal(0, noise, n)
    return Predictions(
        "LCM",
        "age",
        "scalar",
        ("age",),
        truth,
        scores,
        np.arange(n),
        np.arange(n) % n_folds,
        np.arange(n),
    )


def point(p: Predictions, name: str) -> float:
    return float(METRICS[p.kind][name].compute(p, np.ones((1, len(p.truth))))[0])
