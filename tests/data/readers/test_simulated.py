"""The simulated cohort: raw files in the abide layout, known effects in known places, and a name
that stays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.atlas import load_atlas
from lcm_scale.config import ShardRecipe, SimulationConfig
from lcm_scale.data.connectivity import pearson
from lcm_scale.data.readers.simulated import planted, write_cohort
from lcm_scale.data.shards import write_shards
from lcm_scale.errors import InputError

SMALL = SimulationConfig(subjects=12, sites=2, volumes=40, missing_labels=0.0)
ATLAS = load_atlas("sim:24")


@pytest.fixture
def simulated(recipe):
    """`simulated(subjects=3)`: the recipe of a small cohort."""

    def make(**keys: object) -> ShardRecipe:
        return recipe(reader="simulated", atlas="sim:24", simulation=replace(SMALL, **keys))

    return make


def test_a_cohort_is_written_in_the_abide_layout(simulated, read_all, recipe, tmp_path) -> None:
    scans, skipped = read_all(simulated())
    folder = tmp_path / "raw" / "tiny"
    assert len(list(folder.glob("*_rois_sim.1D"))) == 12
    assert skipped == []
    read_back, _ = read_all(recipe(reader="abide", dir=folder, atlas="sim:24"))
    assert [a.subject for a in read_back] == [s.subject for s in scans]
    assert all(np.array_equal(a.series, s.series) for a, s in zip(read_back, scans, strict=True))


@pytest.mark.parametrize("reader", ["simulated", "abide"])
def test_what_is_simulated_is_called_so_whoever_reads_it(
    reader: str, simulated, recipe, tmp_path
) -> None:
    write_cohort(tmp_path / "raw", SMALL, ATLAS)
    keys = {"simulation": SMALL} if reader == "simulated" else {}
    manifest = write_shards(recipe(reader=reader, dir=tmp_path / "raw", atlas="sim:24", **keys))
    assert manifest.simulated
    assert (
        json.loads((tmp_path / "shards" / "tiny" / "manifest.json").read_text())["simulated"]
        is True
    )


def test_simulated_files_in_a_table_are_called_so_too(
    recipe, read_all, write_csv, tmp_path
) -> None:
    write_cohort(tmp_path / "raw", SMALL, ATLAS)
    rows = [
        {"file": f"raw/{path.name}", "subject": path.stem}
        for path in sorted((tmp_path / "raw").glob("*.1D"))
    ]
    table = write_csv(tmp_path / "scans.csv", rows)
    scans, _ = read_all(recipe(reader="table", table=table, atlas="sim:24"))
    assert all(scan.simulated for scan in scans) and len(scans) == 12


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, shard_bytes) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_cohort(tmp_path / name, replace(SMALL, seed=seed), ATLAS)
    assert shard_bytes(tmp_path / "a") == shard_bytes(tmp_path / "b")
    assert not set(shard_bytes(tmp_path / "a").values()) & set(shard_bytes(tmp_path / "c").values())


def test_a_cohort_that_is_there_is_not_written_again_and_a_changed_one_is(
    simulated, read_all, tmp_path
) -> None:
    marker = tmp_path / "raw" / "tiny" / "SIMULATED.json"
    read_all(simulated())
    before = marker.stat().st_ino
    read_all(simulated())
    assert marker.stat().st_ino == before
    assert len(read_all(simulated(subjects=5))[0]) == 5
    next((tmp_path / "raw" / "tiny").glob("*.1D")).unlink()
    assert len(read_all(simulated(subjects=5))[0]) == 5


@pytest.mark.parametrize("damage", [b"{", b"\xff", b"[" * 100_000])
def test_a_cohort_whose_marker_is_damaged_is_written_anew(
    damage: bytes, simulated, read_all, tmp_path
) -> None:
    made = simulated(subjects=3, volumes=30)
    before = read_all(made)[0]
    (tmp_path / "raw" / "tiny" / "SIMULATED.json").write_bytes(damage)
    assert np.array_equal(read_all(made)[0][0].series, before[0].series)


def test_a_folder_of_other_peoples_files_is_left_alone(
    abide_folder, recipe, read_all, shard_bytes
) -> None:
    folder = abide_folder()
    before = shard_bytes(folder)
    with pytest.raises(InputError, match=r"raw: .*not simulated"):
        read_all(recipe(reader="simulated", dir=folder, simulation=SMALL))
    assert shard_bytes(folder) == before


def test_effects_lie_in_regions_of_their_own() -> None:
    places = planted(load_atlas("aal116"))
    assert list(places) == ["group", "sex", "age", "task"]
    assert {len(regions) for regions in places.values()} == {10}
    assert len({r for regions in places.values() for r in regions}) == 40


def matrices_of(
    folder: Path, config: SimulationConfig, recipe, read_all
) -> tuple[np.ndarray, list]:
    scans, _ = read_all(recipe(reader="simulated", dir=folder, atlas="sim:40", simulation=config))
    return np.stack([pearson(scan.series) for scan in scans]), scans


@pytest.mark.parametrize("effect", ["group", "sex", "task", "age"])
def test_an_effect_is_where_it_is_said_to_be_planted_and_nowhere_else(
    effect: str, recipe, read_all, tmp_path
) -> None:
    config = SimulationConfig(subjects=120, sites=2, volumes=100, missing_labels=0.0)
    fc, scans = matrices_of(tmp_path / "raw", config, recipe, read_all)
    ages = np.array([scan.age for scan in scans])
    has = {
        "group": np.array([scan.labels["diagnosis"] == "Autism" for scan in scans]),
        "sex": np.array([scan.sex == "M" for scan in scans]),
        "task": np.array([scan.labels["eye_status"] == "open" for scan in scans]),
        "age": ages > np.median(ages),
    }[effect]
    difference = fc[has].mean(0) - fc[~has].mean(0)
    regions = planted(load_atlas("sim:40"))[effect]
    inside = np.zeros_like(difference, dtype=bool)
    inside[np.ix_(regions, regions)] = True
    upper = np.triu(np.ones_like(inside), 1)
    planted_edges, other_edges = difference[inside & upper], difference[~inside & upper]
    assert planted_edges.mean() > (0.05 if effect == "age" else 0.1)
    assert abs(other_edges.mean()) < 0.02
    assert planted_edges.min() > np.abs(other_edges).mean()


def test_without_effects_the_groups_are_alike(recipe, read_all, tmp_path) -> None:
    config = SimulationConfig(subjects=120, sites=2, volumes=100, group_effect=0.0)
    fc, scans = matrices_of(tmp_path / "raw", config, recipe, read_all)
    sick = np.array([scan.labels["diagnosis"] == "Autism" for scan in scans])
    regions = planted(load_atlas("sim:40"))["group"]
    difference = fc[sick].mean(0) - fc[~sick].mean(0)
    assert abs(difference[np.ix_(regions, regions)].mean()) < 0.03


def test_a_share_of_labels_is_left_out(simulated, read_all) -> None:
    scans, _ = read_all(simulated(subjects=200, volumes=30, missing_labels=0.35))
    for missing in (
        [s.age is None for s in scans],
        [s.sex is None for s in scans],
        [s.labels["eye_status"] is None for s in scans],
    ):
        assert 0.25 < np.mean(missing) < 0.45
    assert all(s.labels["diagnosis"] and s.site in {"SIM1", "SIM2"} for s in scans)
