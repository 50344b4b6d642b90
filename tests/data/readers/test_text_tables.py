"""Text tables as people save them: what is a number, what is missing, and what is no region.

The files are written after those of public bug reports (shared/cases 01 to 09, 21, 25, 33).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcm_scale.data.readers.text_tables import COUNTS_ROWS, LABELS_ROWS, read_text
from lcm_scale.errors import InputError

VALUES = np.array([[97.5, -1.25, 3.0], [98.0, 0.5, 4.5], [99.25, 1.0, -6.0], [96.0, 2.0, 7.0]])


def text_of(rows: object, mark: str = "\t") -> str:
    return "\n".join(mark.join(str(cell) for cell in row) for row in rows) + "\n"  # type: ignore[attr-defined]


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(text: str | bytes, name: str = "scan.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_text(path)

    return write_and_read


@pytest.mark.parametrize("word", ["n/a", "N/A", "NA", "nan", "NaN", "", "null", "None", "#N/A"])
def test_the_missing_words_of_tables_are_missing_in_series(read, word: str) -> None:
    rows = [list(row) for row in VALUES]
    for row in rows:
        row[1] = word
    found = read(text_of([("A", "B", "C"), *rows]))
    assert found.columns == ("A", "B", "C")
    assert np.isnan(found.values[:, 1]).all()
    assert np.array_equal(found.values[:, [0, 2]], VALUES[:, [0, 2]])


@pytest.mark.parametrize(
    ("mark", "decimal"), [(";", "."), (";", ","), ("\t", ","), (" ", ","), ("  ", "."), (",", ".")]
)
@pytest.mark.parametrize("header", [(), ("A", "B", "C")])
def test_marks_between_cells_and_in_decimals(
    read, mark: str, decimal: str, header: tuple[str, ...]
) -> None:
    rows = [[f"{value:.2f}".replace(".", decimal) for value in row] for row in VALUES]
    found = read(text_of([header, *rows] if header else rows, mark))
    assert found.columns == header and np.array_equal(found.values, VALUES)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_says_the_encoding(read, encoding: str) -> None:
    found = read(text_of([("A", "B", "C"), *VALUES], ";").encode(encoding))
    assert found.columns == ("A", "B", "C") and np.array_equal(found.values, VALUES)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "X", '""'])
def test_a_column_that_counts_rows_is_left_out_and_said(read, start: int, name: str) -> None:
    rows = [[f'"{i + start}"' if name == '""' else i + start, *row] for i, row in enumerate(VALUES)]
    found = read(text_of([(name, "A", "B", "C"), *rows], ","))
    assert found.columns == ("A", "B", "C") and np.array_equal(found.values, VALUES)
    assert found.remarks in ((COUNTS_ROWS,), ("columns of text were left out: the first, unnamed",))


def test_rs_row_names_have_no_header(read) -> None:
    rows = [[f'"{i + 1}"', *row] for i, row in enumerate(VALUES)]
    found = read(text_of([('"V1"', '"V2"', '"V3"'), *rows], " "))
    assert found.columns == ("V1", "V2", "V3") and np.array_equal(found.values, VALUES)


def test_a_named_column_that_counts_rows_is_a_regions(read) -> None:
    rows = [[i, *row] for i, row in enumerate(VALUES)]
    assert read(text_of([("Z", "A", "B", "C"), *rows])).columns == ("Z", "A", "B", "C")


@pytest.mark.parametrize("first", [0, 1])
def test_counted_headers_above_whole_numbers_are_no_volume(read, first: int) -> None:
    """pandas writes 0 .. R-1; an export as int16 has no decimals that would tell."""
    volumes = np.arange(35).reshape(5, 7) % 11
    found = read(text_of([range(first, first + 7), *volumes], ","))
    assert found.columns == tuple(str(first + i) for i in range(7))
    assert np.array_equal(found.values, volumes)


def test_row_labels_are_checked_against_the_columns(read) -> None:
    matrix = np.array([[1, 0.2, 0.3], [0.2, 1, 0.4], [0.3, 0.4, 1]])
    rows = [[name, *row] for name, row in zip("ABC", matrix, strict=True)]
    straight = read(text_of([("Node", "A", "B", "C"), *rows]))
    turned = read(text_of([("Node", "A", "B", "C"), rows[2], rows[0], rows[1]]))
    for found in (straight, turned):
        assert found.columns == ("A", "B", "C") and np.array_equal(found.values, matrix)
        assert found.remarks == (LABELS_ROWS,)


def test_afnis_text_columns_and_comments(read) -> None:
    rows = [["rest+tlrc", f"{i}[?]", *row] for i, row in enumerate(VALUES)]
    found = read(text_of([("File", "Sub-brick", "Mean_1", "Mean_2", "Mean_3"), *rows]))
    assert found.columns == ("Mean_1", "Mean_2", "Mean_3") and np.array_equal(found.values, VALUES)
    assert found.remarks == ("columns of text were left out: File, Sub-brick",)
    head = "# 3dROIstats -quiet -mask a.nii.gz\n# Mean_1\tMean_2\tMean_3\n"
    found = read(head + text_of(VALUES), "scan.1D")
    assert found.columns == ("Mean_1", "Mean_2", "Mean_3") and np.array_equal(found.values, VALUES)
    assert read("# made by hand\n" + text_of(VALUES)).columns == ()


@pytest.mark.parametrize("mark", ["\t", ",", ";"])
def test_an_empty_last_column_is_none(read, mark: str) -> None:
    rows = [[*row, ""] for row in VALUES]
    for header in ([], [("A", "B", "C", "")], [("A", "B", "C")]):
        found = read(text_of([*header, *rows], mark))
        assert np.array_equal(found.values, VALUES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A,B\n1,2\n3,x\n", r"row 3, column 2 \(B\) is 'x', expected a number"),
        ("A,B\n1,2\nx,4\n", r"row 3, column 1 \(A\) is 'x', expected a number"),
        ("1,2\n\n3,four\n", "row 3, column 2 is 'four', expected a number"),
        ("A,B\n1,2\n3\n", "row 3 has 1 columns, the rows above have 2"),
    ],
)
def test_other_text_stays_an_error(read, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(text)


def test_rs_write_csv2_and_write_table(read) -> None:
    """Semicolons, decimal commas and quoted names; blanks, and a header that lacks the first."""
    rows = [
        [f'"{i + 1}"', *(str(v).replace(".", ",") for v in row)] for i, row in enumerate(VALUES)
    ]
    found = read(text_of([('""', '"V 1"', '"V\n2"', '"V3"'), *rows], ";"))
    assert found.columns == ("V 1", "V\n2", "V3") and np.array_equal(found.values, VALUES)
    rows = [[f'"{i + 1}"', *row] for i, row in enumerate(VALUES)]
    found = read(text_of([('"V 1"', '"V2"', '"V3"'), *rows], "  "), "scan.txt")
    assert found.columns == ("V 1", "V2", "V3") and np.array_equal(found.values, VALUES)


@pytest.mark.parametrize("codes", [(2001, 2002, 2101), (2101, 2001, 2002)])
def test_an_atlass_codes_above_whole_numbers_are_no_volume(
    codes: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "scan.tsv"
    path.write_text(text_of([codes, (900, 1100, 800), (950, 1000, 870)]))
    assert read_text(path, (2001, 2002, 2101)).columns == tuple(map(str, codes))
    assert read_text(path, (1, 2, 3)).values.shape == (3, 3)  # of another atlas: who knows


def test_columns_are_dropped_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scan.csv"
    path.write_text(text_of([("A", "note", "B"), *((a, "hello", b) for a, b, _ in VALUES)]))
    with pytest.raises(InputError, match=r"row 2, column 2 \(note\) is 'hello'"):
        read_text(path)
    found = read_text(path, drop=["note"])
    assert found.columns == ("A", "B") and np.array_equal(found.values, VALUES[:, :2])
    path.write_text(text_of([("File", "A"), *(("rest", a) for a, _, _ in VALUES)]))
    assert read_text(path, drop=["File"]).columns == ("A",)
    with pytest.raises(InputError, match=r"no column 'Fil' to drop .*did you mean 'File'"):
        read_text(path, drop=["Fil"])


def test_a_lone_mark_of_comment_in_front_of_the_names(read) -> None:
    """C-PAC writes `#`, a tab, and the names."""
    found = read("# 3dROIstats\n#\t" + text_of([("Mean_1", "Mean_2", "Mean_3"), *VALUES]))
    assert found.columns == ("Mean_1", "Mean_2", "Mean_3") and np.array_equal(found.values, VALUES)


def test_a_row_that_begins_with_a_spreadsheets_error_is_no_comment(read) -> None:
    found = read(text_of([("A", "B"), ("#N/A", 1), (2, 3)]))
    assert np.array_equal(found.values, [[np.nan, 1], [2, 3]], equal_nan=True)
    with pytest.raises(InputError, match=r"row 2, column 1 .A. is '#DIV/0!'"):
        read(text_of([("A", "B"), ("#DIV/0!", 1), (2, 3)]))


def test_numeric_row_labels_call_for_the_columns_order(read) -> None:
    matrix = np.array([[1, 0.2, 0.3], [0.2, 1, 0.4], [0.3, 0.4, 1]])
    rows = [[code, *row] for code, row in zip((2001, 2002, 2101), matrix, strict=True)]
    found = read(text_of([("Node", 2001, 2002, 2101), *rows[::-1]]))
    assert found.columns == ("2001", "2002", "2101") and np.array_equal(found.values, matrix)


def test_row_labels_that_are_half_the_columns_are_refused(read) -> None:
    rows = [[name, 1, 2, 3] for name in "ABX"]
    with pytest.raises(InputError, match="row 'X' has no column of that name"):
        read(text_of([("Node", "A", "B", "C"), *rows]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("artefact,2\n3,4\n", "row 1, column 1 is 'artefact'"),
        ("A,,C\n1,2,3\n4,5,7\n", "column 2 of the numbers has no name"),
        ("#1\t#2\t#3\n1\t2\n", "3 column names and 2 columns of numbers"),
    ],
)
def test_a_header_that_is_none_is_not_guessed(read, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(text)
