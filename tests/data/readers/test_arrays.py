"""Array files of every kind, and how columns tell which region they are."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from lcm_scale.atlas import Atlas, numbered
from lcm_scale.config import SourceConfig
from lcm_scale.data.readers.arrays import (
    Table,
    as_matrix,
    as_series,
    read_array,
    read_scan,
    without,
)
from lcm_scale.data.readers.columns import indices_of
from lcm_scale.data.readers.text_tables import read_text
from lcm_scale.data.recordings import ScanArrays
from lcm_scale.errors import InputError

VALUES = np.array([[1.5, -2.0, 3e-3], [4.0, 5.25, 6.0]])
HERE = Path("scan.csv")


def write_mat73(path: Path, **arrays: np.ndarray) -> None:
    """As MATLAB's `save -v7.3`: HDF5 behind a block of 512 bytes, arrays in Fortran's order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"
    with path.open("r+b") as handle:
        handle.write(head)


@pytest.mark.parametrize("mark", ["\t", ",", " ", "  ", ", "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_numbers_between_any_mark_and_line_end(mark: str, end: str, tmp_path) -> None:
    path = tmp_path / "scan.txt"
    path.write_bytes(end.join([mark.join(map(str, row)) for row in VALUES] + [""]).encode())
    assert read_text(path) == Table(pytest.approx(VALUES), ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("#2001\t#2002\t#2101", ("2001", "2002", "2101")),
        ("Precentral_L\tPrecentral_R\tGlobSig", ("Precentral_L", "Precentral_R", "GlobSig")),
        ("0\t1\t2", ("0", "1", "2")),
        ('"a"\t"b"\t"c"', ("a", "b", "c")),
        ("\ufeff#1\t#2\t#3", ("1", "2", "3")),
    ],
)
def test_a_line_of_names_is_a_header(header: str, columns: tuple[str, ...], tmp_path) -> None:
    path = tmp_path / "scan.1D"
    path.write_text(
        "\n".join([header, *("\t".join(map(str, row)) for row in VALUES)]), encoding="utf-8"
    )
    table = read_text(path)
    assert table.columns == columns
    assert np.array_equal(table.values, VALUES)


def test_a_first_line_of_numbers_is_data(tmp_path) -> None:
    path = tmp_path / "scan.1D"
    path.write_text("1 2 3\n4 5 6\n")
    assert read_text(path).values.shape == (2, 3)


def test_nan_in_a_text_file_is_a_number_to_be_dealt_with_later(tmp_path) -> None:
    path = tmp_path / "scan.csv"
    path.write_text("1,nan\n2,inf\n")
    assert np.array_equal(read_text(path).values, [[1, np.nan], [2, np.inf]], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("#1\t#2\n", "empty"),
        ("#1\t#2\n1\t2\n3\tx\n", r"row 3, column 2 \(2\) is 'x', expected a number"),
        ("1,2\n\n3,-\n", "row 3, column 2 is '-', expected a number"),
        ("1,2\n3,4,5\n", "row 2 has 3 columns, the rows above have 2"),
        ("a\tb\tc\n1\t2\n", "3 column names and 2 columns of numbers"),
    ],
)
def test_a_table_that_is_none_is_named_by_row_and_column(text: str, message: str, tmp_path) -> None:
    path = tmp_path / "scan.1D"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"scan\.1D: {message}"):
        read_text(path)


def test_numpy_and_matlab_files_give_the_same_numbers(tmp_path) -> None:
    np.save(tmp_path / "a.npy", VALUES.astype(np.float32))
    np.savez(tmp_path / "a.npz", ts=VALUES)
    scipy.io.savemat(tmp_path / "a.mat", {"ts": VALUES})
    write_mat73(tmp_path / "b.mat", ts=VALUES)
    for name in ("a.npy", "a.npz", "a.mat", "b.mat"):
        found = read_array(tmp_path / name).values
        assert found.dtype == np.float64
        assert np.allclose(found, VALUES), name


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_of_several_variables_the_fitting_or_the_named_one_is_read(suffix: str, tmp_path) -> None:
    path = tmp_path / f"scan{suffix}"
    arrays = {"ts": VALUES, "other": np.ones((5, 5)), "note": np.array("text")}
    np.savez(path, **arrays) if suffix == ".npz" else scipy.io.savemat(path, arrays)
    assert np.array_equal(read_array(path, fits=lambda a: 3 in a.shape).values, VALUES)
    assert read_array(path, "other").values.shape == (5, 5)
    with pytest.raises(
        InputError, match=r"several variables fit; name one with source\.key .*ts 2x3"
    ):
        read_array(path)
    with pytest.raises(InputError, match="no variable of numbers fits"):
        read_array(path, fits=lambda a: 7 in a.shape)
    with pytest.raises(InputError, match=r"no variable 'othr', did you mean 'other'\?"):
        read_array(path, "othr")
    with pytest.raises(InputError, match=r"'note' is .*expected a table of numbers"):
        read_array(path, "note")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_a_cut_off_file_is_named(suffix: str, tmp_path) -> None:
    path = tmp_path / f"scan{suffix}"
    arrays = {"ts": np.random.default_rng(0).random((50, 50))}
    if suffix == ".npy":
        np.save(path, arrays["ts"])
    else:
        np.savez(path, **arrays) if suffix == ".npz" else scipy.io.savemat(path, arrays)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=rf"scan\{suffix}: cannot be read as \{suffix}") as caught:
        read_array(path)
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(tmp_path) -> None:
    for name, save in (("a.npy", np.save), ("a.npz", np.savez)):
        save(tmp_path / name, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(InputError, match=name):
            read_array(tmp_path / name)


def test_an_unknown_kind_and_a_missing_file_are_named(tmp_path) -> None:
    (tmp_path / "scan.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"unknown kind of file '\.xlsx'"):
        read_array(tmp_path / "scan.xlsx")
    with pytest.raises(InputError, match=r"gone\.npy: no such file"):
        read_array(tmp_path / "gone.npy")


def test_series_are_turned_so_that_regions_are_columns() -> None:
    assert as_series(VALUES, 3, HERE) is VALUES
    assert np.array_equal(as_series(VALUES.T, 3, HERE), VALUES)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 4), "array of 2 x 4; expected one side of 3"), ((3, 3), "told apart")],
)
def test_series_whose_regions_cannot_be_told_are_refused(
    shape: tuple[int, int], message: str
) -> None:
    with pytest.raises(InputError, match=rf"scan\.csv: .*{message}"):
        as_series(np.ones(shape), 3, HERE)


ATLAS = Atlas("named", (7, 8, 9), ("A", "B", "C"))
TWICE = Atlas("twice", (7, 8, 9), ("A", "B", "B"))


@pytest.mark.parametrize(
    ("columns", "atlas", "expected"),
    [
        ((), ATLAS, None),
        (("9", "7", "8"), ATLAS, (9, 7, 8)),
        (("C", "A", "B"), ATLAS, (9, 7, 8)),
        (("A", "B", "B"), TWICE, (7, 8, 9)),
        (("2", "0", "1"), ATLAS, (9, 7, 8)),
        (("1", "2", "3"), ATLAS, (7, 8, 9)),
        (("Mean_2", "Mean_3", "Mean_1"), ATLAS, (8, 9, 7)),
        (("b", "c", "a "), ATLAS, (8, 9, 7)),
        (("C", "A"), ATLAS, (9, 7)),
        (("V1", "V2", "V3"), numbered("n", 3), (1, 2, 3)),
        (("1", "2"), numbered("n", 3), None),
        (("1", "3"), numbered("n", 3), (1, 3)),
    ],
)
def test_columns_are_regions_by_code_or_name(columns, atlas: Atlas, expected) -> None:
    assert indices_of(columns, atlas, "scan.csv") == expected


@pytest.mark.parametrize(
    ("columns", "atlas", "message"),
    [
        (("A", "B", "D"), ATLAS, "column 'D' is no region of atlas named"),
        (("x", "y", "z"), ATLAS, "none is a region of atlas named.*source.order=position"),
        (("x", "y", "z"), numbered("n", 3), "first file does not"),
        (("7", "8", "\u00b2"), ATLAS, "none is a region of atlas named"),
        (("V1", "V2"), ATLAS, "none is a region of atlas named"),
        (("4", "5", "6"), ATLAS, "region index 4 .* not numbered 0..2 or 1..3"),
        (("7", "8", "9" * 5000), ATLAS, "more digits than a region's index"),
        (("B", "A", "B"), TWICE, "occur twice"),
        (("A", "A", "B"), ATLAS, "occur twice"),
    ],
)
def test_columns_that_contradict_the_atlas_are_refused(columns, atlas: Atlas, message: str) -> None:
    with pytest.raises(InputError, match=rf"scan\.csv: .*{message}"):
        indices_of(columns, atlas, "scan.csv")


def test_columns_are_dropped_by_name() -> None:
    table = Table(VALUES, ("A", "GlobSig", "B"))
    kept = without(table, ["GlobSig"], HERE)
    assert kept.columns == ("A", "B")
    assert np.array_equal(kept.values, VALUES[:, [0, 2]])
    with pytest.raises(InputError, match=r"no column 'GlobSg' to drop .*did you mean 'GlobSig'\?"):
        without(table, ["GlobSg"], HERE)


@pytest.mark.parametrize("triangle", ["upper", "lower"])
@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("lies", [True, False])
def test_a_vector_of_a_triangle_becomes_the_matrix_it_is_of(
    triangle: str, diagonal: bool, lies: bool
) -> None:
    whole = np.corrcoef(np.random.default_rng(0).normal(size=(5, 30)))
    offset = 0 if diagonal else 1
    rows, columns = (
        np.triu_indices(5, offset) if triangle == "upper" else np.tril_indices(5, -offset)
    )
    vector = whole[rows, columns][None] if lies else whole[rows, columns][:, None]
    assert np.allclose(as_matrix(vector, 5, triangle, HERE), whole)
    with pytest.raises(InputError, match=r"scan\.csv: .*say which: source.triangle=upper"):
        as_matrix(vector, 5, "none", HERE)
    assert as_matrix(whole, 5, "none", HERE) is whole


def test_the_recipe_says_which_side_is_time_where_the_sides_cannot() -> None:
    square = np.arange(9.0).reshape(3, 3)
    assert as_series(square, 3, HERE, "time_by_region") is square
    assert np.array_equal(as_series(square, 3, HERE, "region_by_time"), square.T)
    with pytest.raises(InputError, match=r"source\.orientation"):
        as_series(np.ones((3, 5)), 3, HERE, "time_by_region")


def scan_of(path: Path, values: np.ndarray, header: object = (), **source: object) -> ScanArrays:
    np.savetxt(path, values, delimiter=",", header=",".join(map(str, header)), comments="")  # type: ignore[call-overload]
    return read_scan(path, SourceConfig(**source), numbered("x", 6))  # type: ignore[arg-type]


def test_a_header_that_counts_volumes_does_not_make_them_regions(tmp_path) -> None:
    """pandas writes 0 .. T-1 above a frame of regions by time."""
    values = np.random.default_rng(0).normal(size=(9, 6))
    for turned, source in ((values.T, {}), (values[:6].T, {"orientation": "region_by_time"})):
        found = scan_of(tmp_path / "s.csv", turned, range(turned.shape[1]), **source)
        assert found.series is not None and np.allclose(found.series, turned.T)
        assert found.columns == ()
    with pytest.raises(InputError, match=r"set source\.orientation"):
        scan_of(tmp_path / "s.csv", values[:6], range(6))
    with pytest.raises(InputError, match=r"its columns have names .* not volumes"):
        scan_of(tmp_path / "s.csv", values[:6], "abcdef", orientation="region_by_time")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_triangle_may_be_a_vector(suffix: str, tmp_path) -> None:
    """`np.save(matrix[np.triu_indices(R, 1)])` has one side only."""
    matrix = np.corrcoef(np.random.default_rng(0).normal(size=(6, 40)))
    path = tmp_path / f"scan{suffix}"
    vector = matrix[np.triu_indices(6, 1)]
    np.save(path, vector) if suffix == ".npy" else np.savez(path, z=vector)
    source = SourceConfig(kind="connectivity", triangle="upper")
    found = read_scan(path, source, numbered("x", 6)).connectivity
    assert found is not None and np.allclose(found, matrix)
    with pytest.raises(InputError, match=r"a vector of 15 values.*source\.triangle=upper"):
        read_scan(path, SourceConfig(kind="connectivity"), numbered("x", 6))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("r0", "r1", "r3", "r4", "r5"), (1, 2, 4, 5, 6)),  # a 0: they count from it
        (("r1", "r2", "r4", "r5", "r6"), (1, 2, 4, 5, 6)),
        (("0", "1", "2", "3", "4"), None),  # counted when one had gone: nobody knows which
    ],
)
def test_numbers_by_position_tell_which_region_is_missing(columns, expected) -> None:
    assert indices_of(columns, numbered("x", 6), "scan.csv") == expected


def test_positions_that_could_be_codes_are_a_question() -> None:
    gap = Atlas("gap", (1, 2, 4), ("A", "B", "C"))
    with pytest.raises(InputError, match=r"region index 3 .*set source\.order=position"):
        indices_of(("1", "2", "3"), gap, "scan.csv")
    assert indices_of(("0", "1", "2"), gap, "scan.csv") == (1, 2, 4)
