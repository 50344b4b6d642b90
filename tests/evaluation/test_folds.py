"""Folds: nobody stands on two sides, the published folds are reproduced, and what cannot be
measured is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from lcm_scale.errors import InputError
from lcm_scale.evaluation.folds import Fold, class_shortages, require_classes, subject_folds

PUBLISHED_SEED = 142857


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 5), min_size=4, max_size=40),
    n_folds=st.integers(2, 4),
    seed=st.integers(0, 2**31 - 1),
    share=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    n_classes=st.integers(0, 3),
)
def test_no_person_straddles_and_every_scan_is_tested_once(
    counts: list[int], n_folds: int, seed: int, share: float, n_classes: int
) -> None:
    rng = np.random.default_rng(seed)
    subject = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    stratify = subject % n_classes if n_classes and len(counts) >= n_folds * n_classes else None
    folds = subject_folds(subject, rng.permutation(len(counts)), n_folds, seed, stratify, share)
    assert sorted(np.concatenate([f.test for f in folds])) == list(range(len(subject)))
    for fold in folds:
        people = [set(subject[part]) for part in (fold.train, fold.validation, fold.test)]
        assert set.union(*people) == set(subject)
        assert sum(map(len, people)) == len(set(subject))
        assert bool(people[1]) == (share > 0) and people[0]


def test_without_stratification_the_folds_are_the_published_ones() -> None:
    """KFold over the people in sorted order of their raw ids, whatever the order of the scans."""
    raw_ids = [f"sub-{n:05d}" for n in np.random.default_rng(0).permutation(51)]
    subject = np.repeat(np.arange(51), 2)
    ranks = np.argsort(np.argsort(raw_ids))
    ours = subject_folds(subject, ranks, 5, PUBLISHED_SEED, None, 0.2)
    by_id = np.array(sorted(raw_ids))
    for fold, (_, test) in zip(
        ours, KFold(5, shuffle=True, random_state=PUBLISHED_SEED).split(by_id), strict=True
    ):
        assert {raw_ids[s] for s in subject[fold.test]} == set(by_id[test])


def test_the_published_folds_are_these() -> None:
    """The numbers themselves, lest a new scikit-learn shuffle otherwise unnoticed."""
    folds = subject_folds(np.arange(10), np.arange(10), 5, PUBLISHED_SEED, None, 0.0)
    assert [f.test.tolist() for f in folds] == [[1, 8], [4, 6], [0, 3], [2, 5], [7, 9]]


def test_stratified_folds_hold_each_class_evenly() -> None:
    classes = np.repeat([0, 1, 2], [50, 30, 20])
    for fold in subject_folds(np.arange(100), np.arange(100), 5, 1, classes, 0.25):
        assert np.bincount(classes[fold.test]).tolist() == [10, 6, 4]
        share = np.bincount(classes[fold.validation], minlength=3)
        assert np.abs(share - [10, 6, 4]).max() <= 1


def test_a_person_counts_with_the_commonest_of_their_known_classes() -> None:
    subject = np.repeat(np.arange(8), 3)
    classes = np.tile([1, 1, 0], 8)
    classes[:12] = np.tile([0, 0, -1], 4)  # four people of class 0, four of class 1
    for fold in subject_folds(subject, np.arange(8), 4, 0, classes, 0.0):
        assert sorted(set(subject[fold.test] // 4)) == [0, 1], "one of each class is tested"


def test_people_of_unknown_class_are_spread_as_a_stratum_of_their_own() -> None:
    classes = np.repeat([0, -1], [12, 8])
    for fold in subject_folds(np.arange(20), np.arange(20), 4, 0, classes, 0.0):
        assert (classes[fold.test] == -1).sum() == 2


def test_validation_takes_about_its_share_and_always_leaves_someone_to_train_on() -> None:
    fold = subject_folds(np.arange(100), np.arange(100), 5, 0, None, 0.1)[0]
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (72, 8, 20)
    smallest = subject_folds(np.arange(4), np.arange(4), 2, 0, None, 0.9)[0]
    assert (len(smallest.train), len(smallest.validation)) == (1, 1)


def test_another_seed_gives_other_folds_and_the_same_seed_the_same() -> None:
    def tests(seed: int) -> list[list[int]]:
        return [
            f.test.tolist() for f in subject_folds(np.arange(30), np.arange(30), 3, seed, None, 0.2)
        ]

    assert tests(1) == tests(1) != tests(2)


@pytest.mark.parametrize("n_folds", [0, 1, 5])
def test_impossible_numbers_of_folds_are_refused(n_folds: int) -> None:
    with pytest.raises(InputError, match=rf"evaluate.folds={n_folds}: the data hold 4 subjects"):
        subject_folds(np.arange(4), np.arange(4), n_folds, 0, None, 0.0)


def test_stratifying_by_a_column_with_no_class_that_large_is_refused() -> None:
    with pytest.raises(InputError, match=r"evaluate.stratify: no class has 3 subjects"):
        subject_folds(np.arange(6), np.arange(6), 3, 0, np.arange(6) // 2, 0.0)


def fold_of(train: list[int], test: list[int]) -> Fold:
    return Fold(np.array(train), np.array([], np.int64), np.array(test))


def test_shortages_count_people_not_scans_and_skip_classes_that_nobody_has() -> None:
    subject = np.array([0, 1, 2, 2, 2, 3])
    codes = np.array([0, 0, 1, 1, 1, 0])
    found = class_shortages(fold_of([0, 1, 2, 3, 4], [5]), codes, ["CN", "AD", "unseen"], subject)
    assert found == ["'AD' has 1 training subject", "'AD' has no test scan"]


def test_missing_labels_are_no_class() -> None:
    codes = np.array([0, 0, 1, 1, -1, np.nan, 0, 1])
    assert (
        class_shortages(fold_of([0, 1, 2, 3, 4, 5], [6, 7]), codes, ["a", "b"], np.arange(8)) == []
    )


def test_a_fold_that_cannot_measure_the_headline_is_refused_with_the_way_out() -> None:
    codes = np.array([0, 0, 0, 1, 1, 0])
    with pytest.raises(InputError) as caught:
        require_classes(
            fold_of([0, 1, 2, 3], [4, 5]), codes, "diagnosis", ["CN", "AD"], np.arange(6), 3
        )
    message = str(caught.value)
    assert message.startswith(
        "target diagnosis, fold 3: 'AD' has 1 training subject, needs at least 2"
    )
    assert (
        "evaluate.folds" in message
        and "evaluate.stratify=diagnosis" in message
        and "\n" not in message
    )


@pytest.mark.parametrize(
    ("codes", "words"), [([1, 1, 1, 1], "only 'AD'"), ([-1, -1, -1, -1], "no label")]
)
def test_a_target_with_fewer_than_two_classes_is_refused(codes: list[int], words: str) -> None:
    with pytest.raises(InputError, match=rf"{words} occurs in the data; at least two classes"):
        require_classes(
            fold_of([0, 1, 2], [3]), np.array(codes), "diagnosis", ["CN", "AD"], np.arange(4), 1
        )
