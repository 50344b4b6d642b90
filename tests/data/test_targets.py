"""What a set's table columns become: groups through a map, scalars with a unit, and notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.config import GroupConfig, ScalarConfig, ShardRecipe
from lcm_scale.data.manifest import read_index, read_manifest
from lcm_scale.data.shards import write_shards
from lcm_scale.errors import InputError


@pytest.fixture
def listed(tmp_path: Path, bold, write_csv, recipe) -> Callable[..., ShardRecipe]:
    """`listed("score", ["1", "n/a"], scalars=[...])`: a table of one column and a scan a row."""

    def make(column: str, cells: list[str], **keys: Any) -> ShardRecipe:
        rows = []
        for i, cell in enumerate(cells):
            np.save(tmp_path / f"{i}.npy", bold(i))
            rows.append({"file": f"{i}.npy", "subject": i + 1, "sex": "MF"[i % 2], column: cell})
        table = write_csv(tmp_path / "scans.csv", rows)
        return recipe(reader="table", table=table, **{"groups": [], **keys})

    return make


def labels_of(made: ShardRecipe, target: str) -> list[float]:
    """What a written set's index holds of a target."""
    folder = Path(made.shards_dir) / made.name
    manifest = read_manifest(folder)
    column = manifest.vocabulary.names.index(target)
    return [float(value) for value in read_index(folder, manifest).bei[:, column]]


def test_a_scalar_is_a_target_with_its_unit_behind_age(listed) -> None:
    made = listed("FIQ", ["103", "-9999", "n/a", "96.5"])
    made.scalars = [ScalarConfig("fiq", "FIQ", unit="IQ points")]
    manifest = write_shards(made)
    assert manifest.vocabulary.names == ("sex", "fiq")
    assert manifest.vocabulary["fiq"].unit == "IQ points"
    assert labels_of(made, "fiq") == pytest.approx([103, np.nan, np.nan, 96.5], nan_ok=True)


def test_a_log_scale_is_in_the_vocabulary_and_values_stay_in_their_unit(listed) -> None:
    made = listed("rt", ["412.5", "", "980"])
    made.scalars = [ScalarConfig("rt", unit="ms", log=True)]
    assert write_shards(made).vocabulary["rt"].log
    assert labels_of(made, "rt") == pytest.approx([412.5, np.nan, 980], nan_ok=True)


@pytest.mark.parametrize("cell", ["0", "-3.5", "1e-60"])
def test_a_value_without_a_logarithm_is_refused_by_its_row(cell: str, listed) -> None:
    """The last is 0 in single precision, as labels are stored."""
    made = listed("rt", ["412.5", cell])
    made.scalars = [ScalarConfig("rt", log=True)]
    with pytest.raises(InputError, match=rf"scans.csv, row 3.*rt is {cell}, .* no logarithm"):
        write_shards(made)
    made.scalars = [ScalarConfig("rt", log=True, missing=[float(cell)])]
    assert labels_of_written(made) == 1


def labels_of_written(made: ShardRecipe) -> int:
    write_shards(made)
    return int(np.isfinite(labels_of(made, "rt")).sum())


def test_age_may_have_a_log_scale(listed) -> None:
    made = listed("age", ["31", "0", "8"])
    made.age_log = True
    with pytest.raises(InputError, match=r"scans.csv, row 3.*age is 0, which has no logarithm"):
        write_shards(made)
    made.age = False  # then nothing is asked of it
    assert write_shards(made).vocabulary.names == ("sex",)
    made = listed("age", ["31", "12", "8"])
    made.age_log = True
    assert write_shards(made).vocabulary["age"].log
    assert labels_of(made, "age") == [31, 12, 8]


def test_a_recipe_may_name_further_values_that_mean_missing(listed) -> None:
    made = listed("mmse", ["30", "99", "-1", "28"])
    made.scalars = [ScalarConfig("mmse", missing=[99, -1])]
    write_shards(made)
    assert labels_of(made, "mmse") == pytest.approx([30, np.nan, np.nan, 28], nan_ok=True)


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        (["1", "high"], "score", r"scans\.csv, row 3: score is 'high', expected a number"),
        (["1", "2"], "scores", r"row 2: no label column 'scores' for scalar.*'score'"),
        (["n/a", ""], "score", "scalar 's' has no value in any scan"),
    ],
)
def test_a_scalar_that_is_no_number_is_named_by_row_and_column(
    cells: list[str], column: str, message: str, listed
) -> None:
    made = listed("score", cells)
    made.scalars = [ScalarConfig("s", column)]
    with pytest.raises(InputError, match=message):
        write_shards(made)


def test_a_map_gives_the_categories_and_their_order(listed) -> None:
    words = {"CN": "CN", "SMC": "CN", "EMCI": "CN", "LMCI": "AD", "AD": "AD", "MCI": ""}
    made = listed("DX", ["AD", "SMC", "MCI", "LMCI", "CN"])
    made.groups = [GroupConfig("diagnosis", "DX", map=words)]
    assert write_shards(made).vocabulary["diagnosis"].labels == ("CN", "AD")
    assert labels_of(made, "diagnosis") == pytest.approx([2, 1, np.nan, 2, 1], nan_ok=True)


def test_two_groups_may_read_one_column_each_through_its_own_map(listed) -> None:
    made = listed("DX", ["PD", "CN", "SWEDD"])
    made.groups = [
        GroupConfig("diagnosis", "DX", labels=["CN", "PD", "SWEDD"]),
        GroupConfig("patient", "DX", map={"CN": "no", "PD": "yes", "SWEDD": ""}),
    ]
    write_shards(made)
    assert labels_of(made, "diagnosis") == [2, 1, 3]
    assert labels_of(made, "patient") == pytest.approx([2, 1, np.nan], nan_ok=True)


def test_a_word_that_the_map_does_not_know_is_refused(listed) -> None:
    made = listed("DX", ["CN", "EMCL"])
    made.groups = [GroupConfig("diagnosis", "DX", map={"CN": "CN", "EMCI": "CN"})]
    with pytest.raises(InputError, match=r"row 3: DX is 'EMCL'.*'EMCI'.*group 'diagnosis' knows"):
        write_shards(made)


@pytest.mark.parametrize("cells", [["n/a", "n/a"], ["1", "2"]])
def test_an_optional_target_that_nobody_has_is_left_out_and_said(cells: list[str], listed) -> None:
    made = listed("score", cells)
    column = "score" if cells[0] == "n/a" else "another"
    made.groups = [GroupConfig("hand", column, optional=True)]
    made.scalars = [ScalarConfig("iq", column, optional=True)]
    manifest = write_shards(made)
    assert manifest.vocabulary.names == ("sex",)
    assert manifest.notes == ("Left out, since nobody has such a label: hand, iq.",)


def test_two_targets_of_one_name_are_refused_before_a_file_is_read(listed) -> None:
    made = listed("score", ["1", "2"])
    made.groups, made.scalars = [GroupConfig("score")], [ScalarConfig("score")]
    with pytest.raises(InputError, match="two targets are called 'score'"):
        write_shards(made)


@pytest.mark.parametrize("all_files", [False, True])
def test_every_report_says_how_many_failed_the_projects_checks(
    all_files: bool, abide_folder, recipe
) -> None:
    folder = abide_folder(changes={2: {"FILE_ID": "no_filename"}})
    manifest = write_shards(recipe(dir=folder, all_files=all_files, notes=["ABIDE."]))
    assert manifest.scans == (4 if all_files else 3)
    first, second = manifest.notes
    assert first == "ABIDE."
    assert second.startswith("1 of 4 scans: " if all_files else "Left out, 1: ")
    assert "no_filename" in second
