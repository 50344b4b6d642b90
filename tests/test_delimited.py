"""Delimited text: marks, quotes, encodings, as spreadsheets and pipelines write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcm_scale.delimited import header_of, marked, read_delimited, rows_of
from lcm_scale.errors import InputError


def cells_of(text: str) -> list[list[str]]:
    return [cells for _, cells in rows_of(*marked(text), "scan.csv")]


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("a\tb\n1,5\t2\n", "\t"),
        ("a;b\n1,5;2,5\n", ";"),
        ("97,4;98,6\n97,5;98,7\n", ";"),
        ("file,note;x\na,b\n", ","),
        ("file,a;b,c\nx,1;2,3\n", ","),
        ('"one;two",b\n"three;four",c\n', ","),
        ("# made by x, y\n# of z\n1;2\n3;4\n", ";"),
        ("1  2\n3 4\n", None),
        ("subject\n1\n", None),
        ("1,2\n3,4,5\n", ","),
        ("a\tb\t\n1\t2\n", "\t"),
        ("sep=;\nfile;subject\n", ";"),
        ("", None),
    ],
)
def test_the_mark_is_the_one_that_rows_have_alike(text: str, mark: str | None) -> None:
    assert marked(text)[1] == mark


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('a,"b\nc"\n\n"1,5", 2 \n', [["a", "b\nc"], ["1,5", "2"]]),
        ('"V1"  "V 2"\n"1"   2 \n', [["V1", "V 2"], ["1", "2"]]),
        ("a,b\u2028c\n1,2\n", [["a", "b\u2028c"], ["1", "2"]]),
        ("a,b\n,\n", [["a", "b"], ["", ""]]),
    ],
)
def test_cells_hold_marks_and_line_ends_in_quotes(text: str, rows: list[list[str]]) -> None:
    assert cells_of(text) == rows


def test_rows_are_numbered_as_an_editor_numbers_lines() -> None:
    text, mark = marked('sep=,\na,"b\nc"\n\n1,2\n')
    assert [number for number, _ in rows_of(text, mark, "x")] == [3, 5]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_mark_in_front_says_the_encoding(encoding: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "scans.csv"
    path.write_bytes(end.join(["Zürich;b", "1;2", ""]).encode(encoding))
    text, mark = read_delimited(path)
    assert [cells for _, cells in rows_of(text, mark, path)] == [["Zürich", "b"], ["1", "2"]]
    assert header_of(path) == ["Zürich", "b"]


def test_a_cell_without_end_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scan\.csv, row \d+: field larger"):
        list(rows_of('a,"' + "b" * 200_000, ",", "scan.csv"))
