"""A folder whose file names say subject and label, with or without a table of people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.config import GroupConfig
from lcm_scale.errors import InputError

NAMES = r"sub-(?P<subject>\d+)_(?P<state>[a-z]+)"


@pytest.fixture
def folder(tmp_path: Path, bold) -> Callable[..., Path]:
    """`folder("sub-01_open.txt", ...)`: files of blank-separated series in raw/."""

    def write(*names: str) -> Path:
        for i, name in enumerate(names):
            path = tmp_path / "raw" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, bold(i))
        return tmp_path / "raw"

    return write


@pytest.fixture
def named(recipe) -> Callable[..., Any]:
    def make(**keys: Any) -> Any:
        return recipe(
            **{"reader": "names", "names": NAMES, "groups": [GroupConfig("state")], **keys}
        )

    return make


def test_the_name_says_person_and_label(folder, named, read_all, bold) -> None:
    scans, skipped = read_all(named(dir=folder("sub-01_closed.txt", "sub-01_open.txt")))
    assert [(s.subject, s.labels["state"]) for s in scans] == [("01", "closed"), ("01", "open")]
    assert np.allclose(scans[0].series, bold(0))
    assert skipped == []


def test_the_path_below_the_folder_may_say_site_session_and_run(folder, named, read_all) -> None:
    where = folder("north/sub-01_ses-2_open_run-3.txt")
    names = r"(?P<site>\w+)/sub-(?P<subject>\d+)_ses-(?P<session>\d)_(?P<state>\w+)_run-(?P<run>\d)"
    ((scan,), _) = read_all(named(dir=where, names=names))
    assert (scan.site, scan.session, scan.run, scan.labels["site"]) == ("north", "2", "3", "north")


def test_a_name_that_does_not_fit_is_listed(folder, named, read_all) -> None:
    scans, (odd,) = read_all(named(dir=folder("sub-01_open.txt", "readme.txt")))
    assert len(scans) == 1
    assert odd.what == "readme.txt"


def test_a_table_of_people_is_joined_by_subject_however_it_is_spelt(
    folder, named, read_all, write_csv, tmp_path
) -> None:
    table = write_csv(
        tmp_path / "people.csv",
        [{"Subject": "sub-1", "Sex": "F", "Age": "36-40", "MMSE": "29"}],
    )
    where = folder("sub-01_open.txt", "sub-02_open.txt")
    (first, stranger), _ = read_all(named(dir=where, table=table))
    assert (first.sex, first.age, first.labels["MMSE"]) == ("F", 38.0, "29")
    assert first.row.endswith("people.csv, row 2")
    assert (stranger.sex, stranger.age, stranger.labels["MMSE"]) == (None, None, None)


def test_ready_matrices_are_read_where_the_recipe_says_so(named, read_all, tmp_path, bold) -> None:
    matrix = np.corrcoef(bold(0), rowvar=False)
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw/sub-01_open.npy", matrix)
    ((scan,), _) = read_all(named(dir=tmp_path / "raw", kind="connectivity"))
    assert np.array_equal(scan.connectivity, matrix)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"names": None}, "source.names is not set"),
        ({"dir": "nowhere"}, "source.dir: nowhere: no such folder"),
        ({"pattern": "*.mat"}, r"no file of series or matrices fits '\*\.mat'"),
        ({"table": "states.csv"}, r"'state' is a column of states\.csv too"),
    ],
)
def test_what_is_missing_is_named_by_its_key(
    keys: Mapping[str, Any], message: str, folder, named, read_all, write_csv
) -> None:
    write_csv(Path("states.csv"), [{"subject": "1", "state": "open"}])
    with pytest.raises(InputError, match=message):
        read_all(named(**{"dir": folder("sub-01_open.txt"), **keys}))
