"""Who keeps a label: every class, in its proportion, the fewer within the more."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lcm_scale.evaluation.labelled import labelled_people


def drawn(*counts: int) -> np.ndarray:
    """So many people of each class, and five whose class is not known, in a shuffled order."""
    classes = np.repeat(np.arange(-1, len(counts)), [5, *counts])
    return np.random.default_rng(0).permutation(classes)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.3, 0.77, 1.0])
def test_every_class_is_among_them_in_its_proportion(share: float) -> None:
    classes = drawn(80, 15, 5)
    kept = np.bincount(classes[labelled_people(classes, share)], minlength=3)
    assert kept.sum() == max(3, round(share * 100))
    assert (kept >= 1).all()
    assert (np.abs(kept - share * np.array([80, 15, 5])) <= 2).all()


def test_the_fewer_lie_within_the_more() -> None:
    classes = drawn(30, 11, 4)
    sizes = [set(np.flatnonzero(labelled_people(classes, s))) for s in np.linspace(0.02, 1, 40)]
    assert all(few <= more for few, more in pairwise(sizes))


def test_who_has_no_label_is_not_counted_and_keeps_none() -> None:
    classes = drawn(6, 4)
    assert labelled_people(classes, 1.0).sum() == 10
    assert not labelled_people(classes, 0.5)[classes < 0].any()
    assert not labelled_people(np.full(3, -1), 0.5).any()
