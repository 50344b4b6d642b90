"""A baseline: the nearest neighbours by their edges, as many as do best on the inner folds."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from lcm_scale.evaluation.offered import Fitted, Training

TRIED = (1, 5, 15)


def fit(training: Training) -> Fitted:
    """Fit on a fold's training scans; the held-out ones come later, to the function returned."""
    best = max(TRIED, key=lambda count: _inner_score(training, count))
    model = _model(training, best, len(training.truth)).fit(training.edges, training.truth)
    if training.kind == "scalar":
        return model.predict

    def probabilities(edges: np.ndarray) -> np.ndarray:
        found = np.zeros((len(edges), training.n_classes))  # a class without training scans: 0
        found[:, model.classes_.astype(int)] = model.predict_proba(edges)
        return found

    return probabilities


def _inner_score(training: Training, count: int) -> float:
    scores = []
    for fitted, held in training.inner_folds:
        model = _model(training, count, len(fitted))
        model.fit(training.edges[fitted], training.truth[fitted])
        scores.append(model.score(training.edges[held], training.truth[held]))
    return float(np.mean(scores))


def _model(
    training: Training, count: int, scans: int
) -> KNeighborsClassifier | KNeighborsRegressor:
    kind = KNeighborsClassifier if training.kind == "class" else KNeighborsRegressor
    return kind(min(count, scans), metric="correlation")
