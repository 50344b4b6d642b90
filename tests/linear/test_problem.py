"""Inner folds of few people."""

from __future__ import annotations

import numpy as np
import pytest

from lcm_scale.linear.problem import Problem, folds_within, inner_folds


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


def test_folds_that_are_asked_for_again_are_the_same_and_nobody_elses() -> None:
    truth, who = np.repeat(["b", "a"], 12), np.arange(24).astype(str)
    first = folds_within(truth, who, 0, True)
    others = [
        folds_within(np.sort(truth)[np.arange(24) % 5 * 4], who, 0, True),
        folds_within(truth, who, 1, True),
    ]
    first[0][1][:] = -1  # what one does with them
    again = folds_within(truth, who, 0, True)
    held = [np.sort(np.concatenate([held for _, held in each])) for each in (again, *others)]
    assert all(np.array_equal(each, np.arange(24)) for each in held)
    assert all(not np.array_equal(each[0][1], again[0][1]) for each in others)
