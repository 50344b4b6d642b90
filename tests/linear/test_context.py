"""What is known of a scan beside its matrix: who shares what, what is added, and what is left
out."""

from __future__ import annotations

import numpy as np

from lcm_scale.linear.context import (
    LEAST_PEOPLE,
    Context,
    KnownColumn,
    added,
    matched,
    shared,
)

SITE, EYES, AGE = KnownColumn("site", ("a", "b", "c")), KnownColumn("eyes", ("o", "c")), "age"


def of(values: list[list[float]], *columns: KnownColumn) -> Context:
    return Context(columns or (SITE, EYES), np.array(values, dtype=float))


def test_a_shared_category_adds_half_and_an_unknown_one_nothing() -> None:
    left = of([[0, 1], [np.nan, 1]])
    right = of([[0, 1], [0, 0], [np.nan, np.nan]])
    assert np.array_equal(shared(left, right), [[2.0, 1.5, 1.0], [1.5, 1.0, 1.0]])


def test_added_features_are_a_column_a_category_and_a_number_over_its_spread() -> None:
    age = KnownColumn(AGE, (), 40.0, 10.0)
    scans = of([[2, 55], [np.nan, np.nan], [0, 30]], SITE, age)
    assert np.array_equal(scans.indicators, [[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    assert np.array_equal(scans.features, [[0, 0, 1, 1.5], [0, 0, 0, 0], [1, 0, 0, -1.0]])
    assert np.array_equal(added(scans, scans), scans.features @ scans.features.T)
    assert np.array_equal(shared(scans, scans)[0], [1.5, 1, 1]), "numbers are not shared"


def test_a_category_of_few_people_is_unknown_and_numbers_get_their_scale() -> None:
    """Nobody's vector is to be read out of a deviation."""
    people = np.repeat(np.arange(2 * LEAST_PEOPLE - 1), 2)
    codes = (people >= LEAST_PEOPLE).astype(float)  # one person short in the second
    ages = np.linspace(20, 60, len(people))
    ages[3] = np.nan
    found = of(list(zip(codes, ages, strict=True)), EYES, KnownColumn(AGE, ())).fitted(people)
    assert np.array_equal(np.isnan(found.values[:, 0]), codes == 1)
    known = ages[np.isfinite(ages)]
    assert np.allclose(
        [found.columns[1].centre, found.columns[1].scale], [known.mean(), known.std()]
    )
    assert found.columns[0].shares == (1.0, 0.0)
    assert np.allclose(found.features.mean(0), 0), "what is not known is as the average scan"
    spread = of([[0, 0]] * 20 + [[1, 0]] * 60 + [[np.nan, 0]] * 9, SITE, EYES).fitted(np.arange(89))
    assert spread.columns[0].shares == (0.25, 0.75, 0.0)
    assert np.allclose(spread.features.mean(0), 0) and not spread.features[-1, :3].any()


def test_nobody_is_told_what_is_asked() -> None:
    left = of([[1, 0], [2, 1]]).without("site")
    assert left.columns == (EYES,) and np.array_equal(left.values, [[0], [1]])


def test_categories_are_found_by_name() -> None:
    codes = matched(SITE, np.array([0.0, 1, 2, np.nan]), ("c", "elsewhere", "a"))
    assert np.array_equal(codes, [2, np.nan, 0, np.nan], equal_nan=True)
