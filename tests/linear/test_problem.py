"""Inner folds of few people."""

from __future__ import annotations

import numpy as np
import pytest

from lcm_scale.linear.problem import Problem, inner_folds


@pytest.mark.parametrize("counts", [(2, 2), (1, 1), (1, 3), (4, 4), (3, 30)])
@pytest.mark.parametrize("stratified", [True, False])
def test_a_handful_of_people_have_folds_too(counts: tuple[int, int], stratified: bool) -> None:
    """Five folds of two classes with four people each were refused."""
    truth = np.repeat([0, 1], counts)
    nothing = np.empty((0, 0))
    n = len(truth)
    folds = inner_folds(Problem(nothing, nothing, truth, np.arange(n), 2, 0), stratified)
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(n))
    assert all(len(fit) and not set(fit) & set(held) for fit, held in folds)
