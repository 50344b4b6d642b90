"""Many scans in one array of three sides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from lcm_scale.config import ShardRecipe
from lcm_scale.errors import InputError

IDS = ("a1", "b2", "c3")
NUMBERS = np.array([[7.0, 8.0, 9.0]])


def cells(items: object) -> np.ndarray:
    made = np.empty((1, len(IDS)), dtype=object)
    for i, item in enumerate(items):
        made[0, i] = item
    return made


def npy(path: Path, stack: np.ndarray) -> Path:
    np.save(path.with_suffix(".npy"), stack)
    return path.with_suffix(".npy")


def fortran(path: Path, stack: np.ndarray) -> Path:
    return npy(path, np.asfortranarray(stack))


def npz(path: Path, stack: np.ndarray) -> Path:
    more = {"ids": np.array(IDS), "numbers": NUMBERS[0].astype(int), "ages": np.ones((3, 1))}
    np.savez_compressed(path.with_suffix(".npz"), tc=stack, **more)
    return path.with_suffix(".npz")


def mat(path: Path, stack: np.ndarray) -> Path:
    path = path.with_suffix(".mat")
    scipy.io.savemat(path, {"tc": stack, "ids": cells(IDS), "numbers": NUMBERS})
    return path


def mat73(path: Path, stack: np.ndarray) -> Path:
    path = path.with_suffix(".mat")
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("tc", data=stack.T, chunks=True, compression="gzip")
        file["numbers"] = NUMBERS.T
    return path


FORMATS = [npy, fortran, npz, mat, mat73]


@pytest.fixture
def stacked(tmp_path: Path, bold, recipe, write_csv) -> Callable[..., ShardRecipe]:
    def make(
        write: Callable[[Path, np.ndarray], Path] = npy,
        last: bool = False,
        ready: bool = False,
        rows: int = 3,
        **keys: object,
    ) -> ShardRecipe:
        scans = [np.corrcoef(bold(i).T) if ready else bold(i) for i in range(3)]
        path = write(tmp_path / "all", np.stack(scans, axis=2 if last else 0))
        people = [{"subject": IDS[i % 3], "diagnosis": "CN", "age": 20 + i} for i in range(rows)]
        given = {
            "file": path,
            "stack": "last" if last else "first",
            "ids": "rows",
            "table": write_csv(tmp_path / "people.csv", people),
            "kind": "connectivity" if ready else "series",
        }
        kept = {key: value for key, value in (given | keys).items() if value is not None}
        return recipe(reader="stack", **kept)

    return make


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("ready", [False, True], ids=["series", "matrices"])
@pytest.mark.parametrize("write", FORMATS)
def test_scans_are_the_tables_rows_in_their_order(
    write, ready: bool, last: bool, stacked, read_all, bold
) -> None:
    scans, skipped = read_all(stacked(write, last, ready))
    assert [scan.subject for scan in scans] == list(IDS) and not skipped
    assert [scan.age for scan in scans] == [20, 21, 22]
    for i, scan in enumerate(scans):
        if ready:
            assert np.allclose(scan.connectivity, np.corrcoef(bold(i).T))
        else:
            assert np.array_equal(scan.series, bold(i))


@pytest.mark.parametrize(
    ("write", "ids", "expected"),
    [
        (npz, "ids", IDS),
        (npz, "numbers", ("7", "8", "9")),
        (mat, "ids", IDS),
        (mat, "numbers", ("7", "8", "9")),
        (mat73, "numbers", ("7", "8", "9")),
    ],
)
def test_ids_of_the_file_name_the_scans(write, ids, expected, stacked, read_all) -> None:
    scans, _ = read_all(stacked(write, ids=ids, table=None))
    assert [scan.subject for scan in scans] == list(expected)


def test_ids_join_the_table_whatever_the_order_of_its_rows(
    stacked, read_all, write_csv, tmp_path
) -> None:
    made = stacked(npz, ids="ids")
    rows = [{"subject": name, "age": 50 + i} for i, name in enumerate(IDS)]
    write_csv(tmp_path / "people.csv", rows[::-1])
    assert [scan.age for scan in read_all(made)[0]] == [50, 51, 52]


def test_a_cell_of_matrices_and_a_struct_array_are_stacks(
    stacked, read_all, bold, tmp_path
) -> None:
    held = {
        "data": cells([bold(i) for i in range(3)]),
        "subj": np.array([(bold(i), f"s{i}") for i in range(3)], [("tc", "O"), ("id", "O")])[None],
    }
    scipy.io.savemat(tmp_path / "all.mat", held)
    for key, ids in (("data", "rows"), ("subj.tc", "subj.id")):
        scans, _ = read_all(
            stacked(file=tmp_path / "all.mat", key=key, ids=ids, table=None)
            if ids != "rows"
            else stacked(file=tmp_path / "all.mat", key=key)
        )
        assert [np.array_equal(scan.series, bold(i)) for i, scan in enumerate(scans)] == [True] * 3
    assert [scan.subject for scan in scans] == ["s0", "s1", "s2"]


@pytest.mark.parametrize("shape", ["whole", "upper", "lower"])
@pytest.mark.parametrize("suffix", [".txt", ".npy", ".npz", ".mat"])
def test_a_row_of_edges_is_a_scan(
    shape: str, suffix: str, stacked, read_all, bold, tmp_path
) -> None:
    matrices = [np.corrcoef(bold(i).T) for i in range(3)]
    upper, lower = np.triu_indices(len(matrices[0]), 1), np.tril_indices(len(matrices[0]), -1)
    cut = {"whole": np.ravel, "upper": lambda m: m[upper], "lower": lambda m: m[lower]}[shape]
    rows = np.stack([cut(matrix) for matrix in matrices])
    path = tmp_path / f"netmats{suffix}"
    if suffix == ".txt":
        np.savetxt(path, rows, fmt="%.17g")
    elif suffix == ".npy":
        np.save(path, rows)
    elif suffix == ".npz":
        np.savez(path, netmats=rows)
    else:
        scipy.io.savemat(path, {"netmats": rows})
    triangle = "none" if shape == "whole" else shape
    made = stacked(file=path, stack="rows", kind="connectivity", triangle=triangle)
    scans, _ = read_all(made)
    assert [np.allclose(s.connectivity, m) for s, m in zip(scans, matrices, strict=True)] == [
        True
    ] * 3
    if shape != "whole":
        made.source.triangle = "none"
        with pytest.raises(InputError, match=r"say which: source\.triangle=upper"):
            read_all(made)


@pytest.mark.parametrize("key", [None, "tc"])
def test_a_list_of_names_in_the_file_names_the_regions(
    key, stacked, read_all, bold, tmp_path
) -> None:
    names = np.array([[f"left {i}"] for i in range(bold(0).shape[1])], dtype=object).T
    stack = np.stack([bold(i) for i in range(3)])
    scipy.io.savemat(tmp_path / "all.mat", {"tc": stack, "roi_names": names, "ids": cells(IDS)})
    scans, _ = read_all(stacked(file=tmp_path / "all.mat", key=key))
    assert scans[0].columns == tuple(names[0])
    scans, _ = read_all(stacked(file=tmp_path / "all.mat", key=key, order="position"))
    assert scans[0].columns == ()


def test_scans_of_one_person_are_runs(stacked, read_all, write_csv, tmp_path) -> None:
    made = stacked()
    write_csv(tmp_path / "people.csv", [{"subject": name} for name in ("a", "b", "a")])
    assert [(s.subject, s.run) for s in read_all(made)[0]] == [("a", "1"), ("b", ""), ("a", "2")]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stack": None}, r"source\.stack is not set: first where scans x volumes x regions"),
        ({"ids": None}, r"source\.ids is not set: say whose the scans are"),
        ({"file": None}, r"source\.file is not set"),
        ({"table": None}, r"source\.table is not set: source\.ids=rows"),
        ({"rows": 4}, r"4 rows, .*all\.npy holds 3 scans"),
        ({"last": True, "stack": "first"}, r"3 rows, .*all\.npy holds 40 scans"),
        ({"last": True, "stack": "first", "ready": True}, r"scans of 6 x 3; .*not fit 6 regions"),
        ({"stack": "rows"}, r"source\.stack=rows holds matrices"),
        ({"ids": "ids"}, r"an \.npy lists no ids; source\.ids=rows"),
        ({"write": npz, "ids": "idz"}, r"all\.npz: no variable 'idz' \(source\.ids\)"),
        ({"write": mat, "ids": "tc"}, r"'tc' is no list of words or numbers"),
        ({"write": npz, "key": "ages"}, r"'ages' is float64, 3 x 1; expected a stack of numbers"),
    ],
)
def test_what_is_open_is_a_question(keys: dict, message: str, stacked, read_all) -> None:
    with pytest.raises(InputError, match=message):
        read_all(stacked(**keys))


def test_a_stack_in_another_reader_says_which_reads_it(
    stacked, read_all, recipe, write_csv, tmp_path
) -> None:
    stacked()
    table = write_csv(tmp_path / "scans.csv", [{"file": "all.npy", "subject": 1}])
    with pytest.raises(InputError, match="a stack of scans is read with reader: stack"):
        read_all(recipe(reader="table", table=table))


@pytest.mark.parametrize("write", FORMATS)
def test_a_file_cut_short_is_one_line(write, stacked, read_all) -> None:
    made = stacked(write)
    path = Path(made.source.file)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(InputError, match=r"all\.\w+: cannot be read as"):
        read_all(made)


def test_one_scan_at_a_time_is_bounded_not_the_stack(stacked, read_all, monkeypatch, bold) -> None:
    monkeypatch.setattr("lcm_scale.limits.MOST_NUMBERS", bold(0).size)
    assert len(read_all(stacked(npy))[0]) == 3
    with pytest.raises(InputError, match="values; at most"):  # it is unpacked as a whole
        read_all(stacked(npz))
