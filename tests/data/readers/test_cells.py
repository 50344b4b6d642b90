"""Cells of tables of people: what is missing, what is a number, what is an age."""

from __future__ import annotations

import pytest

from lcm_scale.data.readers.cells import age_in_years, is_missing, is_open_ended, number_of
from lcm_scale.errors import InputError


@pytest.mark.parametrize(
    "cell",
    ["", " ", ".", "n/a", "N/A", "NA", "nan", "NaN", "NULL", "None", "#N/A", "-9999", "-9999.00"],
)
def test_words_that_mean_missing(cell: str) -> None:
    assert is_missing(cell)


@pytest.mark.parametrize("cell", ["no", "0", "-", "CN", "-999", "nano"])
def test_words_that_mean_something(cell: str) -> None:
    assert not is_missing(cell)


@pytest.mark.parametrize(
    ("cell", "number"),
    [("1.5", 1.5), ("1,5", 1.5), ("0,123", 0.123), ("1,2345", 1.2345), ("-3", -3.0), ("1e3", 1000)],
)
def test_numbers_may_have_a_decimal_comma(cell: str, number: float) -> None:
    assert number_of(cell) == number


@pytest.mark.parametrize("cell", ["1,234", "1.234,5", "1_000", "12 000", "high"])
def test_what_could_be_two_numbers_is_none(cell: str) -> None:
    assert number_of(cell) is None


@pytest.mark.parametrize(
    ("cell", "unit", "age"),
    [
        ("17.5", "years", 17.5),
        ("17,5", "years", 17.5),
        ("480", "months", 40.0),
        ("36-40", "years", 38.0),
        ("36 \u2013 40", "years", 38.0),
        ("36 to 40 years", "years", 38.0),
        ("90+", "years", 90.0),
        (">89", "years", 89.0),
        ("\u226590", "years", 90.0),
        ("<18", "years", 18.0),
        ("25y", "years", 25.0),
        ("45 years", "months", 45.0),
        ("045Y", "years", 45.0),
        ("018M", "years", 1.5),
        ("30 months", "years", 2.5),
    ],
)
def test_ages_are_years_however_they_are_written(cell: str, unit: str, age: float) -> None:
    assert age_in_years(cell, unit, "there") == age


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "520",
            r"there is '520' \(years\), which is nobody's age; ages in months: source.age_unit",
        ),
        ("-3", r"there is '-3' \(years\), which is nobody's age$"),
        ("9000", "nobody's age$"),
        ("130+", r"nobody's age"),
        ("40-36", "expected a number, a band"),
        ("old", "expected a number, a band"),
        ("25 weeks", "expected a number, a band"),
        ("inf", "nobody's age"),
    ],
)
def test_what_is_nobodys_age_is_refused(cell: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        age_in_years(cell, "years", "there")


def test_an_age_with_one_end_is_known_as_such() -> None:
    assert [is_open_ended(c) for c in ("90+", ">89", "36-40", "38")] == [True, True, False, False]
