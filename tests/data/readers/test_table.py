"""A table that lists scans: any lab's files and labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from lcm_scale.atlas import load_atlas
from lcm_scale.config import ShardRecipe
from lcm_scale.data.connectivity import pearson
from lcm_scale.data.readers.columns import indices_of
from lcm_scale.errors import InputError

SUFFIXES = [".npy", ".npz", ".csv", ".tsv", ".1D", ".mat"]


def save(path: Path, values: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, ts=values)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"ts": values})
    else:
        np.savetxt(path, values, delimiter="," if path.suffix == ".csv" else "\t")


@pytest.fixture
def listed(tmp_path, write_csv, recipe) -> Callable[..., ShardRecipe]:
    """`listed([{"file": "a.npy", "subject": 1}], kind=...)`: a table in tmp_path, and the recipe
    that names it."""

    def write(rows: list[dict[str, Any]], name: str = "scans.csv", **keys: Any) -> ShardRecipe:
        return recipe(reader="table", table=write_csv(tmp_path / name, rows), **keys)

    return write


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["series", "connectivity"])
def test_every_kind_of_file_is_read(
    suffix: str, kind: str, tmp_path, listed, read_all, bold
) -> None:
    values = bold(0) if kind == "series" else pearson(bold(0)).astype(float)
    save(tmp_path / f"scan{suffix}", values)
    (scan,), _ = read_all(listed([{"file": f"scan{suffix}", "subject": "1"}], kind=kind))
    assert (scan.series is None) == (kind == "connectivity")
    assert np.allclose(scan.series if kind == "series" else scan.connectivity, values)


def test_series_that_lie_on_their_side_are_turned(tmp_path, listed, read_all, bold) -> None:
    np.save(tmp_path / "scan.npy", bold(0).T)
    (scan,), _ = read_all(listed([{"file": "scan.npy", "subject": "1"}]))
    assert np.array_equal(scan.series, bold(0))


@pytest.mark.parametrize("name", ["scans.csv", "scans.tsv"])
def test_known_columns_are_facts_and_all_others_labels(
    name: str, tmp_path, listed, read_all, bold
) -> None:
    np.save(tmp_path / "scan.npy", bold(0))
    row = {
        "file": "scan.npy",
        "subject": "sub-01",
        "session": "2",
        "run": "b",
        "site": "Basel",
        "tr": 0.8,
        "age": 33.5,
        "sex": "female",
        "mean_fd": 0.12,
        "diagnosis": "CN",
        "hand": "n/a",
    }
    (scan,), _ = read_all(listed([row], name=name))
    assert (scan.subject, scan.session, scan.run, scan.site) == ("sub-01", "2", "b", "Basel")
    assert (scan.tr, scan.age, scan.sex, scan.mean_fd) == (0.8, 33.5, "F", 0.12)
    assert scan.labels == {"site": "Basel", "diagnosis": "CN", "hand": None}


def test_the_recipe_fills_in_site_and_tr_where_the_table_is_silent(
    tmp_path, listed, read_all, bold
) -> None:
    np.save(tmp_path / "scan.npy", bold(0))
    (scan,), _ = read_all(
        listed([{"file": "scan.npy", "subject": "1"}], site="Basel", tr=2.5, cohort="basel-study")
    )
    assert (scan.site, scan.tr, scan.cohort) == ("Basel", 2.5, "basel-study")
    assert (scan.age, scan.sex, scan.mean_fd) == (None, None, None)


def test_rows_without_a_file_are_listed(tmp_path, listed, read_all, bold) -> None:
    np.save(tmp_path / "scan.npy", bold(0))
    rows = [
        {"file": "scan.npy", "subject": "1"},
        {"file": "gone.npy", "subject": "2"},
        {"file": "", "subject": "3"},
    ]
    scans, skipped = read_all(listed(rows))
    assert len(scans) == 1
    assert [s.what for s in skipped] == [
        "row of subject 2 (gone.npy)",
        "row of subject 3 (no file)",
    ]
    assert {s.why for s in skipped} == {"table row without a file"}


def test_a_name_longer_than_any_file_has_is_named_by_its_row(listed, read_all) -> None:
    with pytest.raises(InputError, match=r"scans\.csv, row 2: file 'a{64}' cannot be looked at"):
        read_all(listed([{"file": "a" * 300, "subject": "1"}]))


def test_files_may_lie_elsewhere_and_behind_links(tmp_path, listed, read_all, bold) -> None:
    """Whoever writes the list names the files: tools list absolute paths, and DataLad's are links."""
    (tmp_path / "elsewhere").mkdir()
    np.save(tmp_path / "elsewhere" / "scan.npy", bold(0))
    (tmp_path / "link.npy").symlink_to(tmp_path / "elsewhere" / "scan.npy")
    rows = [
        {"file": tmp_path / "elsewhere" / "scan.npy", "subject": "1"},
        {"file": "link.npy", "subject": "2"},
    ]
    scans, skipped = read_all(listed(rows))
    assert [scan.subject for scan in scans] == ["1", "2"] and skipped == []


def test_what_is_no_file_is_not_opened(tmp_path, listed, read_all, bold) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    np.save(tmp_path / "scan.npy", bold(0))
    files = ["scan.npy", "/dev/zero", "pipe.npy"]
    _, skipped = read_all(listed([{"file": f, "subject": i} for i, f in enumerate(files)]))
    assert [skip.why for skip in skipped] == ["table row without a file"] * 2


def test_named_columns_are_matched_and_dropped_by_name(tmp_path, listed, read_all, bold) -> None:
    order = [2, 0, 1, 5, 4, 3]
    header = ",".join(["global", *(f"region {i + 1}" for i in order)])
    np.savetxt(
        tmp_path / "scan.csv",
        np.c_[np.ones(40), bold(0)[:, order]],
        delimiter=",",
        header=header,
        comments="",
    )
    (scan,), _ = read_all(listed([{"file": "scan.csv", "subject": "1"}], drop_columns=["global"]))
    assert indices_of(scan.columns, load_atlas("tiny:6"), "") == (3, 1, 2, 6, 5, 4)
    assert np.allclose(scan.series, bold(0)[:, order])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"subject": ""}, "row 2: subject is empty"),
        ({"age": "old"}, "row 2: age is 'old', expected a number"),
        ({"sex": "x"}, "row 2: sex is 'x'"),
        ({"tr": "2s"}, "row 2: tr is '2s'"),
    ],
)
def test_a_wrong_cell_is_named_by_row_and_column(
    row: dict[str, str], message: str, listed, read_all
) -> None:
    with pytest.raises(InputError, match=rf"scans\.csv, {message}"):
        read_all(listed([{"file": "scan.npy", "subject": "1"} | row]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows below the header"),
        ("file,subjct\na.npy,1\n", r"no column 'subject', did you mean 'subjct'\?"),
        ("file,subject\n", "no rows below the header"),
        ("file,subject\na.npy,1,2\n", "row 2: more cells than the header has columns"),
    ],
)
def test_a_table_that_is_none_is_refused(
    text: str, message: str, tmp_path, recipe, read_all
) -> None:
    (tmp_path / "scans.csv").write_text(text)
    with pytest.raises(InputError, match=rf"scans\.csv.*{message}"):
        read_all(recipe(reader="table", table=tmp_path / "scans.csv"))


def test_a_missing_table_is_named(tmp_path, recipe, read_all) -> None:
    with pytest.raises(InputError, match=r"gone\.csv: no such table"):
        read_all(recipe(reader="table", table=tmp_path / "gone.csv"))
    with pytest.raises(InputError, match=r"source\.table is not set"):
        read_all(recipe(reader="table"))


def test_marks_that_end_no_line_do_not_cut_a_row(tmp_path, listed, read_all, bold) -> None:
    """Windows' three dots are 0x85, which Unicode takes for the end of a line."""
    np.save(tmp_path / "scan.npy", bold(0))
    made = listed([{"file": "scan.npy", "subject": "1"}])
    (tmp_path / "scans.csv").write_bytes(b"file,note,subject\nscan.npy,see below\x85,1\n")
    (scan,), _ = read_all(made)
    assert (scan.subject, scan.labels["note"]) == ("1", "see below")


def test_a_table_from_excel_in_latin1_or_with_a_mark_in_front_is_read(
    tmp_path, recipe, read_all, bold
) -> None:
    np.save(tmp_path / "scan.npy", bold(0))
    for encoding in ("utf-8-sig", "latin-1"):
        (tmp_path / "scans.csv").write_text(
            "file,subject,site\nscan.npy,1,Zürich\n", encoding=encoding
        )
        (scan,), _ = read_all(recipe(reader="table", table=tmp_path / "scans.csv"))
        assert scan.site == "Zürich"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_lists_of_any_mark_and_encoding_are_read(
    mark: str, encoding: str, tmp_path, recipe, read_all, bold
) -> None:
    """As spreadsheets save them, with an index and empty cells at the end of each line."""
    np.save(tmp_path / "scan.npy", bold(0))
    lines = [["", "file", "subject", "site", ""], ["0", "scan.npy", "1", "Zürich", ""]]
    text = "\r".join([mark.join(line) for line in lines])
    (tmp_path / "scans.csv").write_bytes(text.encode(encoding))
    (scan,), _ = read_all(recipe(reader="table", table=tmp_path / "scans.csv"))
    assert (scan.subject, scan.labels) == ("1", {"site": "Zürich"})
