"""What lies in the structs and cells of MATLAB files, of version 5 as of 7.3: HDF5 as MATLAB lays it
out (references into #refs#, sides turned, MATLAB_class on every dataset)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from lcm_scale.atlas import numbered
from lcm_scale.config import SourceConfig
from lcm_scale.data.readers.arrays import read_array, read_scan
from lcm_scale.errors import InputError

R, T = 4, 9
ATLAS = numbered("tiny", R)
SERIES = np.round(np.random.default_rng(3).standard_normal((T, R)), 3)
CLASSES = {"float64": "double", "float32": "single", "bool": "logical", "complex128": "double"}


def cells(*items: Any) -> np.ndarray:
    """A MATLAB array of cells, 1 x n."""
    made = np.empty((1, len(items)), dtype=object)
    for i, item in enumerate(items):
        made[0, i] = item
    return made


def columns() -> np.ndarray:
    return cells(*(SERIES[:, [r]] for r in range(R)))


NAMES = cells(*(f"region {r + 1}" for r in range(R)))
COMPLEX = SERIES + 1j * SERIES


def write_5(path: Path, arrays: dict[str, Any]) -> Path:
    scipy.io.savemat(path, arrays)
    return path


def write_73(path: Path, arrays: dict[str, Any]) -> Path:
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in arrays.items():
            put(file, file.require_group("#refs#"), name, value)
    return path


def put(group: h5py.Group, refs: h5py.Group, name: str, value: Any) -> None:
    if isinstance(value, list):  # a struct array: each field an array of references
        made = group.create_group(name)
        made.attrs["MATLAB_class"] = np.bytes_("struct")
        for field in value[0]:
            put(made, refs, field, cells(*(element[field] for element in value)))
            del made[field].attrs["MATLAB_class"]
    elif isinstance(value, dict):
        made = group.create_group(name)
        made.attrs["MATLAB_class"] = np.bytes_("struct")
        for field, item in value.items():
            put(made, refs, field, item)
    elif scipy.sparse.issparse(value):
        made = group.create_group(name)
        made.attrs["MATLAB_sparse"], made.attrs["MATLAB_class"] = (
            value.shape[0],
            np.bytes_("double"),
        )
        made["data"], made["ir"], made["jc"] = value.data, value.indices, value.indptr
    elif isinstance(value, str):
        group[name] = np.array([[ord(c)] for c in value], "u2")
        group[name].attrs["MATLAB_class"] = np.bytes_("char")
    elif value.dtype == object:
        links = np.empty(value.T.shape, h5py.ref_dtype)
        for i, item in enumerate(value.ravel()):
            put(refs, refs, f"r{len(refs)}", item)
            links.ravel()[i] = refs[f"r{len(refs) - 1}"].ref
        group.create_dataset(name, data=links, dtype=h5py.ref_dtype)
        group[name].attrs["MATLAB_class"] = np.bytes_("cell")
    else:
        kind = str(value.dtype)
        data = value.T.astype("u1") if kind == "bool" else value.T
        if kind == "complex128":
            data = np.array(data, np.dtype([("real", "f8"), ("imag", "f8")]))
            data["real"], data["imag"] = value.T.real, value.T.imag
        group[name] = data
        group[name].attrs["MATLAB_class"] = np.bytes_(CLASSES.get(kind, kind))


Write = Callable[[Path, dict[str, Any]], Path]
versions = pytest.mark.parametrize("write", [write_5, write_73], ids=["5", "7.3"])


def scan(path: Path, **keys: Any) -> np.ndarray | None:
    return read_scan(path, SourceConfig(**keys), ATLAS).series


@versions
@pytest.mark.parametrize(
    ("held", "key"),
    [
        ({"data": columns()}, "data"),
        ({"data": cells(*(SERIES[:, r][None] for r in range(R)))}, "data"),
        ({"data": cells(SERIES)}, "data"),
        ({"data": cells(SERIES[:3], SERIES)}, "data{2}"),
        ({"subj": {"tc": SERIES, "name": "P00"}}, "subj.tc"),
        ({"subj": {"tc": SERIES.T, "name": "P00"}}, "subj.tc"),
        ({"s": {"run": {"tc": columns(), "names": NAMES}}}, "s.run.tc"),
        ({"roi": [{"tc": SERIES[:, [r]], "id": f"r{r}"} for r in range(R)]}, "roi.tc"),
        ({"subj": [{"tc": SERIES[:3]}, {"tc": SERIES}]}, "subj.tc{2}"),
        ({"ts": (1000 * SERIES).astype("i2")}, "ts"),
        ({"ts": (50 + 10 * SERIES).astype("u1")}, "ts"),
        ({"ts": SERIES.astype("f4")}, "ts"),
        ({"ts": SERIES + 0j}, "ts"),
        ({"subj": {"tc": scipy.sparse.csc_matrix(SERIES)}}, "subj.tc"),
        ({"tc": scipy.sparse.csc_matrix(SERIES)}, "tc"),
    ],
)
@pytest.mark.parametrize("named", [True, False], ids=["named", "found"])
def test_series_are_read_wherever_they_lie(
    write: Write, held: dict[str, Any], key: str, named: bool, tmp_path: Path
) -> None:
    if write is write_5:
        held = {
            k: np.array([tuple(e.values()) for e in v], [(f, "O") for f in v[0]])[None]
            if isinstance(v, list)
            else v
            for k, v in held.items()
        }
    # Beside them what is no candidate: a vector as long as the atlas, truth values, texts.
    beside = {"roi_ok": np.ones((1, R), bool), "sizes": np.arange(4.0)[None], "note": "abcd"}
    path = write(tmp_path / "scan.mat", held | beside)
    if not named and ("{" in key or "sparse" in str(held)):
        pytest.skip("several would fit, and a sparse matrix is meant only where it is named")
    read = scan(path, key=key if named else None)
    expected = SERIES
    if isinstance(ts := held.get("ts"), np.ndarray):
        expected = ts.real.astype(float)
    assert read is not None and np.allclose(read, expected, atol=1e-7)


@versions
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("wrap", [lambda held: held, lambda held: {"s": held}])
def test_a_list_beside_an_array_names_its_regions(
    write: Write, turned: bool, wrap: Callable, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "scan.mat",
        wrap({"ts": SERIES.T if turned else SERIES, "names": NAMES, "subject_name": "ab"}),
    )
    table = read_array(path, fits=lambda v: R in v.shape)
    assert table.columns == ("region 1", "region 2", "region 3", "region 4")
    assert np.array_equal(table.values, SERIES)


@versions
def test_a_square_of_volumes_and_regions_stays_a_question_though_it_has_names(
    write: Write, tmp_path: Path
) -> None:
    path = write(tmp_path / "scan.mat", {"ts": SERIES[:R], "names": NAMES})
    with pytest.raises(InputError, match="time and regions cannot be told apart"):
        scan(path)
    ready = np.corrcoef(SERIES.T)
    ready = write(tmp_path / "ready.mat", {"r": ready, "names": NAMES})
    assert read_array(ready).columns[0] == "region 1"


@versions
@pytest.mark.parametrize(
    ("held", "key", "message"),
    [
        (
            {"subj": {"tc": SERIES, "name": "P"}},
            "subj",
            r"'subj' is a struct; name a part.*subj\.tc",
        ),
        ({"subj": {"tc": SERIES}}, "subj.ts", r"no variable 'subj\.ts', did you mean 'subj\.tc'"),
        (
            {"a": {"tc": SERIES}, "b": SERIES},
            None,
            r"several variables fit.*\(it holds a\.tc 9x4, b 9x4\)",
        ),
        ({"d": cells(SERIES, SERIES[:, :2])}, "d", r"'d' is a cell of several sizes: 9 x 4, 9 x 2"),
        ({"names": NAMES}, "names", r"'names' is cell of text, 1 x 4; expected a table of numbers"),
        ({"d": cells("a", SERIES[:, [0]])}, "d", r"'d' is a cell of"),
        ({"z": COMPLEX}, None, r"'z' holds complex numbers; save .*abs or real"),
        ({"z": COMPLEX}, "z", r"'z' holds complex numbers"),
        (
            {"d": np.zeros((2, T, R))},
            "d",
            r"2 x 9 x 4; .*a stack of scans is read with reader: stack",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line_that_says_what_to_do(
    write: Write, held: dict[str, Any], key: str | None, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "scan.mat", held)
    with pytest.raises(InputError, match=message) as got:
        scan(path, key=key)
    assert "\n" not in str(got.value)


def opaque() -> bytes:
    """A version 5 variable `T` of MATLAB's class table, as an object of MCOS."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    body = element(6, struct.pack("<II", 17, 0)) + b"".join(
        element(1, word) for word in (b"T", b"MCOS", b"table")
    )
    numbers = element(6, struct.pack("<II", 13, 0)) + element(5, struct.pack("<ii", 6, 1))
    numbers += element(1, b"") + element(6, bytes(24))
    return element(14, body + element(14, numbers))


def test_a_table_of_matlab_says_what_to_save_instead(tmp_path: Path) -> None:
    path = write_73(tmp_path / "new.mat", {"T": np.ones((1, 6), "u4")})
    with h5py.File(path, "a") as file:
        file["T"].attrs["MATLAB_class"] = np.bytes_("table")
    with pytest.raises(InputError, match=r"'T' is table, .*save table2array\(T\)"):
        scan(path, key="T")
    path = write_5(tmp_path / "old.mat", {"ts": SERIES})
    path.write_bytes(path.read_bytes() + opaque())
    assert np.array_equal(scan(path), SERIES)
    with pytest.raises(InputError, match=r"'T' is opaque, .*save table2array\(T\)"):
        scan(path, key="T")


def test_version_4_is_read(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "old.mat", {"ts": SERIES, "note": "abcd"}, format="4")
    assert np.array_equal(scan(tmp_path / "old.mat"), SERIES)


@pytest.mark.parametrize("loop", [True, False], ids=["in itself", "very deep"])
def test_a_struct_without_end_is_refused(loop: bool, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.mat", "w", userblock_size=512) as file:
        group = file.create_group("s")
        for _ in range(40):
            group = group.create_group("s")
        if loop:
            group["s"] = file["s"]
    with pytest.raises(InputError, match=r"scan\.mat: structs and cells more than 16 deep"):
        scan(tmp_path / "scan.mat")


def test_a_struct_that_leads_out_of_the_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["tc"] = SERIES
    with h5py.File(tmp_path / "scan.mat", "w") as file:
        file.create_group("s")["tc"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/tc")
    with pytest.raises(InputError, match=r"'tc' is an external link"):
        scan(tmp_path / "scan.mat", key="s.tc")


def test_a_sparse_matrix_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    for write in (write_5, write_73):
        path = write(tmp_path / "scan.mat", {"m": scipy.sparse.csc_matrix((10**5, 10**4))})
        with pytest.raises(InputError, match=r"at most 67,108,864 are read"):
            scan(path, key="m")
