"""CONN's region series.

Layout: alfnie/conn at 39b4f25a (conn_process.m): line 1990 saves ROI_Subject###_Condition###.mat
with data, d1data, d2data, fbdata, names, xyz, source, conditionweights, conditionname, crop, line
1106 ROI_Subject###_Session###.mat with data, names, source, xyz, sampledata, samplexyz; `names` are
those of the regions, then of the first-level covariates and effects; Condition000 is all conditions
(line 1996); line 2340 has what CONN leaves out of its analyses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lcm_scale.atlas import load_atlas
from lcm_scale.config import ShardRecipe
from lcm_scale.data.readers.columns import indices_of
from lcm_scale.errors import InputError


def cells(items: list[object]) -> np.ndarray:
    made = np.empty((1, len(items)), dtype=object)
    for i, item in enumerate(items):
        made[0, i] = item
    return made


def write(path: Path, series: np.ndarray, names: list[str], extra: tuple[str, ...] = ()) -> None:
    """The regions between tissue before and covariates behind them, as CONN writes them."""
    t = len(series)
    tissue = ["Grey Matter", "White Matter", "CSF"]
    rows = [np.ones((t, 1)), np.zeros((t, 5)), np.zeros((t, 5))]
    rows += [series[:, [i]] for i in range(series.shape[1])] + [np.ones((t, 1)) for _ in extra]
    rows += [np.zeros((t, 12)), np.ones((t, 1))]
    words = [*tissue, *names, *extra, "realignment", "Effect of rest"]
    data = cells(list(rows))
    scipy.io.savemat(
        path,
        {
            "data": data,
            "d1data": data,
            "names": cells(list(words)),
            "xyz": cells([np.zeros((1, 3)) for _ in words]),
            "conditionname": "rest",
            "conditionweights": cells([np.ones((t, 1))]),
        },
        do_compression=True,
    )


@pytest.fixture
def conn(tmp_path: Path, bold, recipe, write_csv) -> Callable[..., ShardRecipe]:
    def make(names: list[str] | None = None, table: bool = True, **keys: object) -> ShardRecipe:
        folder = tmp_path / "preprocessing"
        folder.mkdir(exist_ok=True)
        n = bold(0).shape[1]
        for number in (1, 2):
            for condition in (0, 1):
                write(
                    folder / f"ROI_Subject{number:03d}_Condition{condition:03d}.mat",
                    bold(number),
                    names or [f"atlas.r{i} (Region {i})" for i in range(n)],
                    ("networks.DefaultMode.MPFC (1,55,-3)",),
                )
        rows = [
            {"participant_id": f"sub-X{i}", "conn_subject": i, "diagnosis": "CN"} for i in (1, 2)
        ]
        keys.setdefault("rois", "atlas")
        if table:
            keys["table"] = write_csv(tmp_path / "people.csv", rows)
        return recipe(reader="conn", dir=folder, **keys)

    return make


def test_regions_are_read_and_the_rest_is_left_out_and_said(conn, read_all, bold) -> None:
    scans, skipped = read_all(conn())
    assert [scan.subject for scan in scans] == ["sub-X1", "sub-X2"]
    assert [scan.session for scan in scans] == ["condition001"] * 2
    assert scans[0].labels["diagnosis"] == "CN"
    for number, scan in enumerate(scans, 1):
        assert np.array_equal(scan.series, bold(number))
    assert {skip.why for skip in skipped} == {
        "file of all conditions together, each of which has its own"
    }
    remark = "left out, no regions of the set: Grey Matter, White Matter, CSF, networks.DefaultMode"
    assert scans[0].file_remarks[0].startswith(remark)
    assert "Effect of rest" in scans[0].file_remarks[0]


def test_names_decide_the_order(conn, read_all, bold, write_csv, tmp_path) -> None:
    n = bold(0).shape[1]
    table = [{"index": 10 + i, "name": f"r{i}"} for i in reversed(range(n))]
    atlas = str(write_csv(tmp_path / "mine.tsv", table))
    scans, _ = read_all(conn(atlas=atlas))
    assert scans[0].columns == tuple(f"r{i}" for i in range(n))
    assert indices_of(scans[0].columns, load_atlas(atlas), "x") == tuple(10 + i for i in range(n))
    assert read_all(conn(atlas=atlas, order="position"))[0][0].columns == ()


def test_the_series_before_denoising_are_said_to_be_so(conn, read_all, bold) -> None:
    made = conn(pattern="*Session*.mat")
    folder = Path(made.source.dir)
    write(
        folder / "ROI_Subject001_Session002.mat",
        bold(1),
        [f"atlas.r{i}" for i in range(bold(0).shape[1])],
    )
    scans, _ = read_all(made)
    assert scans[0].session == "session002"
    assert scans[0].remarks == ("series before CONN's denoising",)


def test_subjects_without_a_table_are_conns_numbers(conn, read_all) -> None:
    assert [scan.subject for scan in read_all(conn(table=False))[0]] == ["001", "002"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"rois": None},
            r"several ROI files, atlas .*networks \(1 regions\); name one: source\.rois",
        ),
        ({"rois": "atls"}, r"no regions of 'atls' \(source\.rois\), did you mean 'atlas'"),
        ({"pattern": "x*"}, r"no file fits 'x\*'"),
        ({"dir": "gone"}, r"source\.dir: gone: no such folder"),
    ],
)
def test_what_is_open_or_missing_is_one_line(conn, read_all, keys, message: str) -> None:
    made = conn(**{key: value for key, value in keys.items() if key != "dir"})
    if "dir" in keys:
        made.source.dir = keys["dir"]
    with pytest.raises(InputError, match=message):
        read_all(made)


def test_another_mat_of_that_name_is_refused(conn, read_all) -> None:
    made = conn()
    path = Path(made.source.dir) / "ROI_Subject001_Condition001.mat"
    scipy.io.savemat(path, {"ts": np.ones((3, 3))})
    with pytest.raises(InputError, match=r"Condition001\.mat: no file of CONN's region series"):
        read_all(made)


def test_a_number_that_two_people_have_is_refused(conn, read_all, write_csv, tmp_path) -> None:
    made = conn()
    rows = [{"subject": name, "conn_subject": 1} for name in "ab"]
    write_csv(Path(made.source.table), rows)
    with pytest.raises(InputError, match=r"row 3: conn_subject 1 stands in .*row 2 too"):
        read_all(made)
