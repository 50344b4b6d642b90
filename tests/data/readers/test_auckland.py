"""The Auckland collection's folders.

Layout: `ConnectivityMatrices.py` of brainnetuoa/data_driven_network_neuroscience, commit f5dfdc1
(a folder a person, `{person}_AAL116_correlation_matrix.mat` and `..._features_timeseries.mat`, key
`data`); folder names of people, control and patient, as in
URPS_2024/auckland_mri_data/taowu of peterwmacd/nettest, commit 3708845; prodromal, swedd and the
metadata's columns as in mattreturn1/NeuroGraph-Analysis, commit 0f7493a, and
Chrisa142857/brain_network_decoder, commit 760febc, datasets.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from lcm_scale.config import GroupConfig
from lcm_scale.errors import InputError

PEOPLE = ("control032057", "patient032077", "prodromal3102", "swedd3101")


@pytest.fixture
def collection(tmp_path: Path, bold, write_csv) -> Callable[..., Path]:
    """`collection(PEOPLE, rows)`: both files of each person in ppmi/, the metadata beside it."""

    def write(people: Sequence[str], rows: Sequence[dict[str, Any]] = ()) -> Path:
        folder = tmp_path / "raw" / "ppmi"
        for i, person in enumerate(people):
            place = folder / f"sub-{person}"
            place.mkdir(parents=True)
            stem = f"sub-{person}_AAL116"
            matrix = np.corrcoef(bold(i), rowvar=False)
            scipy.io.savemat(place / f"{stem}_correlation_matrix.mat", {"data": matrix})
            scipy.io.savemat(place / f"{stem}_features_timeseries.mat", {"data": bold(i)})
            scipy.io.savemat(
                place / f"sub-{person}_schaefer100_correlation_matrix.mat", {"data": 1}
            )
        if rows:
            write_csv(tmp_path / "raw" / "PPMI_metadata.csv", rows)
        return folder

    return write


@pytest.fixture
def auckland(recipe) -> Callable[..., Any]:
    def make(**keys: Any) -> Any:
        groups = [GroupConfig("diagnosis", "group")]
        return recipe(**{"reader": "auckland", "kind": "connectivity", "groups": groups, **keys})

    return make


def image(subject: str, group: str, **facts: Any) -> dict[str, Any]:
    """A row of the metadata: one an image."""
    return {"Subject": subject, "Group": group, "Sex": "M", "Age": 60, "Modality": "fMRI", **facts}


def test_folder_names_say_who_and_of_which_group(collection, auckland, read_all, bold) -> None:
    scans, skipped = read_all(auckland(dir=collection(PEOPLE)))
    assert [(s.subject, s.labels["group"]) for s in scans] == [
        ("032057", "control"),
        ("032077", "patient"),
        ("3102", "prodromal"),
        ("3101", "swedd"),
    ]
    assert np.allclose(scans[0].connectivity, np.corrcoef(bold(0), rowvar=False))
    assert skipped == []


def test_series_are_read_where_the_recipe_asks_for_them(
    collection, auckland, read_all, bold
) -> None:
    (scan, *_), _ = read_all(auckland(dir=collection(PEOPLE), kind="series"))
    assert np.array_equal(scan.series, bold(0))
    assert scan.connectivity is None


def test_sex_and_age_come_from_the_rows_of_the_metadata(collection, auckland, read_all) -> None:
    rows = [
        image("control032057", "Control"),
        image("control032057", "Control", Modality="MRI"),
        image("3101", "SWEDD", Sex="F", Age=52),
        image("9999", "PD"),
    ]
    (control, patient, _, swedd), (row,) = read_all(auckland(dir=collection(PEOPLE, rows)))
    assert (control.sex, control.age, swedd.sex, swedd.age) == ("M", 60.0, "F", 52.0)
    assert (patient.sex, patient.age) == (None, None)
    assert (row.what, row.why) == ("row of subject 9999", "metadata row without a file")


@pytest.mark.parametrize(
    ("person", "group"), [("control1", "PD"), ("patient1", "Control"), ("swedd1", "Prodromal")]
)
def test_a_folder_that_the_metadata_contradicts_is_refused(
    person: str, group: str, collection, auckland, read_all
) -> None:
    folder = collection([person], [image("1", group)])
    word = person.rstrip("1")
    with pytest.raises(InputError, match=f"the name says '{word}', .*row 2 says '{group}'"):
        read_all(auckland(dir=folder))


def test_patients_are_of_whatever_group_the_set_is_about(collection, auckland, read_all) -> None:
    folder = collection(["patient1", "patient2"], [image("1", "PD"), image("2", "Autism")])
    assert len(read_all(auckland(dir=folder))[0]) == 2


def test_a_folder_sorted_by_age_and_group_is_read_too(collection, auckland, read_all) -> None:
    folder = collection(["control1"])
    sorted_by_age = folder / "60-" / "control"
    sorted_by_age.mkdir(parents=True)
    (folder / "sub-control1").rename(sorted_by_age / "sub-control1")
    assert len(read_all(auckland(dir=folder))[0]) == 1


def test_a_folder_without_files_says_what_was_looked_for(auckland, read_all, tmp_path) -> None:
    with pytest.raises(InputError, match=r"no file fits .*_AAL116_correlation_matrix\.mat"):
        read_all(auckland(dir=tmp_path))
