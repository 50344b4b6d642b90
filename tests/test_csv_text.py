"""CSV for people: formulas are text, numbers stay numbers."""

from __future__ import annotations

import csv
import io

import pytest

from lcm_scale.csv_text import csv_text


@pytest.mark.parametrize(
    "word",
    ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1", "-"],
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(word: str) -> None:
    head, row = csv.reader(io.StringIO(csv_text([{word: word}]), newline=""))
    assert head == row == ["'" + word.replace("\r", "\n")]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-1.5, "-1.5"),
        ("-1.5", "-1.5"),
        ("+3e-4", "+3e-4"),
        ("-inf", "-inf"),
        (None, ""),
        (-3, "-3"),
    ],
)
def test_numbers_stay_numbers(value: object, cell: str) -> None:
    assert csv_text([{"x": value, "y": 1}]) == f"x,y\n{cell},1\n"


def test_what_no_file_can_hold_is_spelt_out() -> None:
    assert csv_text([{"x": "a\ud800"}]) == "x\na\\ud800\n"


def test_a_carriage_return_begins_no_row() -> None:
    assert csv_text([{"x": "a\r=1"}]) == 'x\n"a\n=1"\n'


@pytest.mark.parametrize("word", ["plain", "a=b", "'quoted", " =1", "\N{MINUS SIGN}1", ""])
def test_other_text_stays_as_it_is(word: str) -> None:
    ((cell,),) = csv.reader(io.StringIO(csv_text([{"x": word}], head=False, columns=["x"])))
    assert cell == word


def test_columns_are_those_named_or_the_first_rows() -> None:
    rows = [{"a": 1, "b": 2}, {"a": 3}]
    assert csv_text(rows) == "a,b\n1,2\n3,\n"
    assert csv_text(rows, ["b", "a"]) == "b,a\n2,1\n,3\n"
    assert csv_text([], ["b", "a"]) == "b,a\n" and csv_text([]) == ""
