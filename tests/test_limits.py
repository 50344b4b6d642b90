"""How large a stranger's file may be: told before memory is taken, in a line that names file, size
and bound."""

from __future__ import annotations

import io
import os
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lcm_scale import limits
from lcm_scale.atlas import load_atlas
from lcm_scale.data.readers.arrays import read_array, read_text
from lcm_scale.data.readers.phenotypes import abide_table, read_rows
from lcm_scale.errors import InputError, nearest

BOUND = r"at most 67,108,864 are read"


@contextmanager
def little_memory(megabytes: float = 8) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 2**20
    finally:
        tracemalloc.stop()


def npy(shape: tuple[int, ...], dtype: str = "<f8", body: bytes = bytes(64)) -> bytes:
    """An .npy that claims a shape, whatever it holds."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"shape": shape, "fortran_order": False, "descr": dtype}
    )
    return file.getvalue() + body


def write(folder: Path, suffix: str, array: bytes) -> Path:
    path = folder / f"scan{suffix}"
    if suffix == ".npy":
        path.write_bytes(array)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("scan.npy", array)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (npy((2**16, 2**13)), rf"'scan': 65536 x 8192 values; {BOUND}"),
        (npy((2**40, 2**40)), rf"'scan': 1099511627776 x 1099511627776 values; {BOUND}"),
        (npy((2**12, 2**12)), r"the header of 'scan' claims 134,217,728 bytes, the file holds 64"),
        (npy((-1, 8)), r"a negative length"),
        (npy((2, 4), "|O"), r"'scan' is object, 2 x 4; expected a table of numbers"),
        (npy((2, 4), "<U4"), r"'scan' is <U4, 2 x 4; expected a table of numbers"),
        (npy((0, 8)), r"'scan' is float64, 0 x 8; expected a table of numbers"),
        (npy(()), r"'scan' is float64, a single value; expected a table of numbers"),
    ],
)
def test_what_a_header_claims_is_checked_before_memory_is_taken(
    suffix: str, array: bytes, message: str, tmp_path
) -> None:
    path = write(tmp_path, suffix, array)
    with little_memory(), pytest.raises(InputError, match=rf"scan\{suffix}: .*{message}"):
        read_array(path, "scan" if suffix == ".npz" else None)


def test_of_an_archive_only_the_array_that_is_meant_is_unpacked(tmp_path) -> None:
    np.savez_compressed(tmp_path / "scan.npz", ts=np.ones((9, 6)), voxels=np.zeros((2**13, 2**12)))
    with little_memory():
        assert read_array(tmp_path / "scan.npz", fits=lambda v: 6 in v.shape).values.shape == (9, 6)
        with pytest.raises(InputError, match="several variables fit"):
            read_array(tmp_path / "scan.npz")


def test_a_member_that_ends_before_its_claim_or_with_another_sum_is_named(tmp_path) -> None:
    path = write(tmp_path, ".npz", npy((2, 4)))
    data = path.read_bytes()
    length, checksum = len(npy((2, 4))), zipfile.ZipFile(path).getinfo("scan.npy").CRC
    for was, becomes in ((checksum, checksum ^ 1), (length, length - 8)):
        path.write_bytes(data.replace(was.to_bytes(4, "little"), becomes.to_bytes(4, "little")))
        with pytest.raises(InputError, match=r"scan\.npz: cannot be read as \.npz"):
            read_array(path)


def test_an_archive_packed_as_numpy_never_packs_is_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "scan.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("ts.npy", npy((2, 4)))
    with pytest.raises(InputError, match=r"'ts\.npy' is compressed in a way that NumPy does not"):
        read_array(tmp_path / "scan.npz")


@pytest.mark.parametrize(
    "read", [read_text, lambda p: read_rows(p, ()), lambda p: load_atlas(str(p))]
)
@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ("LARGEST_TEXT", "131 bytes of text; at most 8 are read"),
        ("LONGEST_LINE", "a line of 99 characters; at most 8 are read"),
        ("MOST_LINES", "17 lines; at most 8 are read"),
    ],
)
def test_text_is_bounded(
    read, bound: str, message: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("1,2\n" * 4 + "1" * 99 + "\n" * 12 + "1,2\n"[:4])
    monkeypatch.setattr(limits, bound, 8)
    with pytest.raises(InputError, match=rf"table\.csv: {message}"):
        read(path)


def test_a_table_of_many_cells_is_refused_before_they_are_split(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "MOST_NUMBERS", 8)
    path = tmp_path / "table.csv"
    path.write_text("subject,b,c\n" + "1,2,3\n" * 3)
    with pytest.raises(InputError, match=r"table\.csv: 4 x 3 values; at most 8 are read"):
        read_rows(path, ("subject",))
    path.write_text("1,2,3\n" * 3)
    with pytest.raises(InputError, match=r"table\.csv: 3 x 3 values; at most 8 are read"):
        read_array(path)


@pytest.mark.parametrize(
    "read", [read_text, lambda p: read_rows(p, ()), lambda p: load_atlas(str(p))]
)
def test_utf_16_and_other_nuls_are_named(read, tmp_path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("index,name\n1,a".encode("utf-16-le"))
    with pytest.raises(InputError, match=r"table\.csv: .*NUL characters; if it is UTF-16, save it"):
        read(path)


def test_a_pipe_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "scan.csv")
    with pytest.raises(InputError, match=r"scan\.csv: no such file"):
        read_text(tmp_path / "scan.csv")
    with pytest.raises(InputError, match=r"no phenotype CSV"):
        abide_table(tmp_path)


def test_a_cell_longer_than_csv_takes_is_named_by_its_row(tmp_path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("index,name\n1,a\n2," + "x" * 200_000)
    with pytest.raises(InputError, match=r"table\.csv, row 3: field larger than field limit"):
        read_rows(path, ())
    with pytest.raises(InputError, match=r"table\.csv: field larger than field limit"):
        load_atlas(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,name\n²,a", "invalid literal"),
        ("index,name\n1" + "0" * 20 + ",a", "larger than a label image can hold"),
        ("index,name\n" + "1" * 5000 + ",a", "index is a whole number"),
        ("index,name,x,y,z\n1,a,nan,0,0", "a coordinate is 'nan'"),
        ("index,name,x\n1,a,0", "'y'"),
    ],
)
def test_an_atlas_of_what_is_no_region_is_named(text: str, message: str, tmp_path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"mine\.csv: .*{message}") as caught:
        load_atlas(str(path))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("count", ["0", "8193", "9" * 5000])
def test_an_atlas_of_too_many_regions_is_refused(count: str, tmp_path) -> None:
    with pytest.raises(InputError, match=r"regions; expected 1 to 8,192"):
        load_atlas(f"mine:{count}")
    with pytest.raises(InputError, match="neither built in"):
        load_atlas("mine:²")
    assert load_atlas("mine:8192").n_regions == 8192
    rows = "".join(f"{i},a\n" for i in range(8193))
    (tmp_path / "mine.csv").write_text("index,name\n" + rows)
    with pytest.raises(InputError, match=r"8,193 regions; expected 1 to 8,192"):
        load_atlas(str(tmp_path / "mine.csv"))


def test_long_names_out_of_files_are_not_compared() -> None:
    """Comparing takes up to the square of the lengths: seconds for these two, hours for a megabyte."""
    letters = "".join(map(chr, range(0x4E00, 0x5400)))
    started = time.process_time()
    assert nearest(letters * 60, [letters[::-1] * 60]) == ""
    assert time.process_time() - started < 1
    assert nearest("othr", ["x" * 2**20, "other"]) == ", did you mean 'other'?"
