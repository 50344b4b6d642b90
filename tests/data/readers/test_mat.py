"""MATLAB files, one a subject."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lcm_scale.config import ScalarConfig, ShardRecipe
from lcm_scale.data.connectivity import pearson
from lcm_scale.data.targets import labels_of
from lcm_scale.errors import InputError


@pytest.fixture
def mat_folder(tmp_path, bold) -> Callable[..., Path]:
    """`mat_folder(turned=True)`: 0050000.mat ... 0050002.mat with the variable ROISignals."""

    def write(turned: bool = False, **more: np.ndarray) -> Path:
        (tmp_path / "raw").mkdir(exist_ok=True)
        for i in range(3):
            series = bold(i).T if turned else bold(i)
            scipy.io.savemat(
                tmp_path / "raw" / f"{50000 + i:07d}.mat", {"ROISignals": series, **more}
            )
        return tmp_path / "raw"

    return write


@pytest.fixture
def mat(recipe) -> Callable[..., ShardRecipe]:
    return lambda folder, **keys: recipe(reader="mat", dir=folder, **keys)


@pytest.mark.parametrize("turned", [False, True], ids=["time x regions", "regions x time"])
@pytest.mark.parametrize("key", [{}, {"key": "ROISignals"}], ids=["found", "named"])
def test_either_side_may_be_the_regions(
    turned: bool, key: dict[str, str], mat_folder, mat, read_all, bold
) -> None:
    scans, _ = read_all(mat(mat_folder(turned), **key))
    assert [scan.subject for scan in scans] == ["0050000", "0050001", "0050002"]
    for i, scan in enumerate(scans):
        assert np.array_equal(scan.series, bold(i))


def test_the_variable_that_fits_the_atlas_is_found_among_others(
    mat_folder, mat, read_all, bold
) -> None:
    scans, _ = read_all(mat(mat_folder(mask=np.ones((9, 9)), TR=2.0)))
    assert np.array_equal(scans[0].series, bold(0))


def test_two_variables_that_fit_must_be_named(mat_folder, mat, read_all) -> None:
    with pytest.raises(
        InputError, match=r"0050000\.mat: several variables fit; name one with source\.key"
    ):
        read_all(mat(mat_folder(cleaned=np.ones((40, 6)))))


def test_a_ready_matrix_is_read_as_one(mat_folder, mat, read_all, bold) -> None:
    ready = pearson(bold(0))
    scans, _ = read_all(mat(mat_folder(fc=ready), kind="connectivity"))
    assert scans[0].series is None
    assert np.array_equal(scans[0].connectivity, ready)


def test_the_subject_is_a_group_of_the_files_name(tmp_path, mat, read_all, bold) -> None:
    for name in ("gw_NAP_007", "hcp_101309"):
        scipy.io.savemat(tmp_path / f"{name}_bold.mat", {"tc": bold(0)})
    scans, _ = read_all(mat(tmp_path, subject_pattern=r"^[a-z]+_(.+)_bold", pattern="*_bold.mat"))
    assert [scan.subject for scan in scans] == ["NAP_007", "101309"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "no regular expression"), ("x(1)", "finds no group"), ("005", "finds no group")],
)
def test_a_pattern_that_finds_no_subject_is_named(
    pattern: str, message: str, mat_folder, mat, read_all
) -> None:
    with pytest.raises(InputError, match=f"source.subject_pattern .*{message}"):
        read_all(mat(mat_folder(), subject_pattern=pattern))


@pytest.mark.parametrize("kind", ["phenotypes", "table"])
def test_people_are_joined_by_number_whatever_its_zeros(
    kind: str, tmp_path, mat_folder, mat, read_all, write_csv
) -> None:
    rows = {
        "phenotypes": [
            {"SUB_ID": s, "DX_GROUP": 1, "AGE_AT_SCAN": 20, "SEX": 2} for s in (50000, 50002, 50009)
        ],
        "table": [
            {"subject": s, "diagnosis": "Autism", "age": 20, "sex": "F"}
            for s in (50000, 50002, 50009)
        ],
    }
    scans, skipped = read_all(
        mat(mat_folder(), **{kind: write_csv(tmp_path / "people.csv", rows[kind])})
    )
    assert [(s.subject, s.age, s.sex, s.labels["diagnosis"]) for s in scans] == [
        ("50000", 20, "F", "Autism"),
        ("50002", 20, "F", "Autism"),
    ]
    assert [(s.what, s.why) for s in skipped] == [
        ("0050001.mat", "file without a row in the table"),
        ("row of subject 50009", "table row without a file"),
    ]


def test_files_of_another_atlas_are_refused_with_what_they_hold(mat_folder, mat, read_all) -> None:
    with pytest.raises(
        InputError, match=r"0050000\.mat: no variable of numbers fits .*ROISignals 40x6"
    ):
        read_all(mat(mat_folder(), atlas="tiny:7"))
    with pytest.raises(InputError, match=r"0050000\.mat: array of 40 x 6; expected one side of 7"):
        read_all(mat(mat_folder(), atlas="tiny:7", key="ROISignals"))


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path, mat, read_all) -> None:
    with pytest.raises(InputError, match=r"source\.dir: .*gone: no such folder"):
        read_all(mat(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"no file fits source\.pattern '\*\.mat'"):
        read_all(mat(tmp_path))


def test_a_file_whose_name_is_no_utf_8_is_named(tmp_path, mat, read_all, mat_folder) -> None:
    folder = mat_folder()
    (folder / "0050000.mat").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mat"))
    with pytest.raises(InputError, match=r"raw: the file name 'caf\\udce9\.mat' is no UTF-8"):
        read_all(mat(folder))


def test_scalars_come_from_the_phenotypes_as_groups_do(
    mat_folder, mat, read_all, write_csv, tmp_path
) -> None:
    row = {"SITE_ID": "NYU", "FILE_ID": "x", "DX_GROUP": 1, "AGE_AT_SCAN": 10, "SEX": 1}
    rows = [{"SUB_ID": 50000 + i, **row, "FIQ": 100 + i} for i in range(3)]
    phenotypes = write_csv(tmp_path / "people.csv", rows)
    made = mat(mat_folder(), phenotypes=phenotypes, scalars=[ScalarConfig("fiq", "FIQ")])
    scans, _ = read_all(made)
    assert [labels_of(scan, made)["fiq"] for scan in scans] == ["100", "101", "102"]
