"""Names decide order: one region is one column of the set, whatever stands first in a file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from lcm_scale.config import GroupConfig, ShardRecipe, SourceConfig
from lcm_scale.data.manifest import read_manifest
from lcm_scale.data.shards import write_shards
from lcm_scale.errors import InputError

NAMES = ("vis", "mot", "lim", "def", "dor")


def written(folder: Path, orders: list[list[int]], named: tuple[bool, ...] | None = None) -> None:
    """A scan a list of positions in `NAMES`, each of them the same few sources in other weights."""
    rows = ["file,subject,diagnosis"]
    for number, order in enumerate(orders):
        rng = np.random.default_rng(number)
        series = rng.normal(size=(60, 5)) + rng.normal(size=(60, 1)) * [0, 3, 0, 3, 0]
        header = ",".join(NAMES[i] for i in order) if named is None or named[number] else ""
        path = folder / f"p{number}.csv"
        np.savetxt(path, series[:, order], delimiter=",", header=header, comments="")
        rows.append(f"p{number}.csv,P{number},{'AB'[number % 2]}")
    (folder / "scans.csv").write_text("\n".join(rows))


def recipe(folder: Path, **source: str) -> ShardRecipe:
    return ShardRecipe(
        name="lab",
        reader="table",
        atlas="lab:5",
        source=SourceConfig(table=str(folder / "scans.csv"), **source),
        groups=[GroupConfig("diagnosis")],
        shards_dir=str(folder / "shards"),
        dtype="float32",
    )


def stored(folder: Path) -> np.ndarray:
    with h5py.File(folder / "shards" / "lab" / "lab.h5") as file:
        return np.asarray(file["fc"])


def test_files_of_a_numbered_atlas_are_brought_into_the_first_ones_order(tmp_path: Path) -> None:
    """An order that differed by class gave a perfect classifier of nothing."""
    for name, orders in (
        ("straight", [[0, 1, 2, 3, 4]] * 6),
        ("turned", [[0, 1, 2, 3, 4], [4, 2, 0, 1, 3]] * 3),
    ):
        (tmp_path / name).mkdir()
        written(tmp_path / name, orders)
        write_shards(recipe(tmp_path / name))
    assert np.allclose(stored(tmp_path / "straight"), stored(tmp_path / "turned"), atol=1e-6)
    manifest = read_manifest(tmp_path / "turned" / "shards" / "lab")
    assert manifest.atlas.names == NAMES and manifest.atlas.indices == (1, 2, 3, 4, 5)


def test_a_file_that_lacks_a_region_says_which(tmp_path: Path) -> None:
    """Also where it is the first of the set."""
    written(tmp_path, [[0, 1, 2, 4], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]])
    manifest = write_shards(recipe(tmp_path))
    assert manifest.quality["regions with NaN or inf, in scans"] == {"def (4)": 1}


@pytest.mark.parametrize(
    ("rename", "message"),
    [("dorsal", "p2.csv: column 'dorsal' is no region of atlas lab, did you mean 'dor'")],
)
def test_a_name_that_the_others_do_not_have_is_named(
    tmp_path: Path, rename: str, message: str
) -> None:
    written(tmp_path, [[0, 1, 2, 3, 4]] * 4)
    path = tmp_path / "p2.csv"
    path.write_text(path.read_text().replace("dor", rename, 1))
    with pytest.raises(InputError, match=message):
        write_shards(recipe(tmp_path))
    assert not (tmp_path / "shards" / "lab").exists()


@pytest.mark.parametrize("first", [True, False])
def test_named_and_unnamed_files_in_one_set_are_a_question(tmp_path: Path, first: bool) -> None:
    written(tmp_path, [[0, 1, 2, 3, 4]] * 4, (first, True, False, True))
    with pytest.raises(InputError, match="does not, so whether they stand in one order"):
        write_shards(recipe(tmp_path))
    manifest = write_shards(recipe(tmp_path, order="position"))
    assert manifest.scans == 4 and manifest.atlas.names[0] == "region 1"
