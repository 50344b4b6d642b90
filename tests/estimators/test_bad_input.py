"""What cannot be meant is a ValueError of one clear line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lcm_scale import ConnectomeFeatures, LCMClassifier, LCMRegressor


def changed(fc: np.ndarray, scan: int, value: float) -> np.ndarray:
    fc = fc.copy()
    fc[scan, 2, 3] = fc[scan, 3, 2] = value
    return fc


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "Input X contains NaN: scan 4, region"),
        (np.inf, "Input X contains infinity: scan 4"),
        (2.5, "scan 4: 2.5 is no correlation; expected -1..1, neither Fisher z nor a covariance"),
    ],
)
def test_a_number_that_is_no_correlation(people: Any, value: float, words: str) -> None:
    for given in (changed(people.fc, 4, value), list(changed(people.fc, 4, value))):
        with pytest.raises(ValueError, match=words):
            LCMClassifier().fit(given, people.group)
        with pytest.raises(ValueError, match=words):
            LCMClassifier().fit(people.fc, people.group).predict(given)


def test_damaged_series_and_matrices(people: Any) -> None:
    lopsided = people.fc.copy()
    lopsided[7, 0, 1] += 0.5
    with pytest.raises(ValueError, match="scan 7: the matrix is not symmetric"):
        LCMClassifier().fit(lopsided, people.group)
    with pytest.raises(ValueError, match="scan 3: every correlation is 0"):
        LCMClassifier().fit(people.fc * (np.arange(60) != 3)[:, None, None], people.group)
    for series, words in (
        (np.ones((50, 8)), "scan 0: no region changes over its 50 volumes"),
        (np.zeros((2, 8)), "scan 0 has 2 volumes"),
        (np.where(np.eye(50, 8), np.nan, people.series[0][:50]), "Input X contains NaN: scan 0"),
        (people.series[0][:, :7], r"same regions; found \[7, 8\] of them"),
    ):
        with pytest.raises(ValueError, match=words):
            LCMClassifier().fit([series, *people.series[1:]], people.group)


def test_a_region_without_data_is_named_and_tells_nothing(people: Any) -> None:
    """As in shards: it is a row of zeros, and of the identity in the tangent space."""
    series = [each.copy() for each in people.series]
    for each in series[:5]:
        each[:, 6] = 100.0
    with pytest.warns(UserWarning, match="5 of 60 scans have a region without data"):
        fitted = LCMClassifier().fit(series, people.group, groups=people.person)
    assert fitted.score(series, people.group) > 0.9


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.zeros(60), "y holds 1 class"),
        (np.r_[np.zeros(59), 1], r"The class .*1.* in y has 1 person, and at least 2"),
        (np.r_[np.zeros(59), np.nan], "Input y contains NaN"),
        (np.linspace(0, 1, 60), "Unknown label type"),
        (np.arange(59) % 2, r"inconsistent numbers of samples: \[60, 59\]"),
        (None, "requires y to be passed"),
    ],
)
def test_classes_that_cannot_be_learnt(people: Any, y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LCMClassifier().fit(people.fc, y)


def test_two_scans_of_one_person_are_one_person(people: Any) -> None:
    y = np.where(people.person == 4, "rare", "common")
    assert len(LCMClassifier().fit(people.fc, y).classes_) == 2
    with pytest.raises(ValueError, match=r"'rare'.* has 1 person"):
        LCMClassifier().fit(people.fc, y, groups=people.person)


def test_rare_classes_and_many(people: Any) -> None:
    y = np.where(people.person < 2, "rare", np.where(people.person < 25, "mid", "old"))
    fitted = LCMClassifier().fit(people.fc, y, groups=people.person)
    found = fitted.predict_proba(people.fc)
    assert list(fitted.classes_) == ["mid", "old", "rare"]
    assert np.allclose(found.sum(1), 1) and found[:, 0].mean() > found[:, 2].mean()


def test_people_and_parameters(people: Any) -> None:
    for groups, words in (
        (np.zeros(60), "groups names 1 person"),
        (np.r_[people.person[:59], np.nan], "groups contains NaN"),
        (people.person[:59], "expected one person a scan"),
    ):
        with pytest.raises(ValueError, match=words):
            LCMRegressor().fit(people.fc, people.age, groups=groups)
    with pytest.raises(ValueError, match="y holds one value"):
        LCMRegressor().fit(people.fc, np.ones(60))
    with pytest.raises(ValueError, match="did you mean 'pearson'"):
        LCMClassifier(kind="pearsons").fit(people.fc, people.group)
    with pytest.raises(ValueError, match="needs positive definite matrices"):
        LCMClassifier(kind="partial").fit(people.series, people.group)
    with pytest.raises(ValueError, match="did you mean 'tangent'"):
        ConnectomeFeatures(features="tangents").fit(people.fc)
    with pytest.raises(ValueError, match="needs series or matrices"):
        ConnectomeFeatures(features="tangent").fit(np.ones((4, 3)))
    with pytest.raises(ValueError, match="116 regions, and X has 8"):
        ConnectomeFeatures(atlas="aal116").fit(people.fc)


def test_another_form_than_it_was_fitted_on(people: Any) -> None:
    fitted = LCMClassifier().fit(people.fc, people.group)
    with pytest.raises(ValueError, match="of 7 regions, but LCMClassifier was fitted on"):
        fitted.predict(people.fc[:, :7, :7])
    with pytest.raises(ValueError, match="X holds columns of features, but"):
        fitted.predict(people.fc[:, 0])


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"y": [1] * 60}, "would tell what is asked"),
        ({"site": ["A"] * 59}, "has 59 values for 60 scans"),
        ({"site": [None] * 60}, "is known of no scan"),
    ],
)
def test_context_that_cannot_be_told(people: Any, context: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LCMClassifier().fit(people.fc, people.group, context=context)


def test_context_that_was_not_there(people: Any) -> None:
    fitted = LCMRegressor().fit(people.fc, people.age, context={"fd": people.age / 9})
    with pytest.raises(ValueError, match="no column 'df', did you mean 'fd'"):
        fitted.predict(people.fc, context={"df": people.age})
    with pytest.raises(ValueError, match="'fd' holds numbers; found a word"):
        fitted.predict(people.fc, context={"fd": ["high"] * 60})
