"""The quality of scans: what is measured of each, who is left out and why, and where both are
said."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from lcm_scale import config
from lcm_scale.config import QualityConfig, ShardRecipe
from lcm_scale.data import store
from lcm_scale.data.manifest import MANIFEST, read_index, read_manifest
from lcm_scale.data.quality import distances, mean_abs_r, robust_z, spikes
from lcm_scale.data.quality_table import TABLE, read_table
from lcm_scale.data.repair import repair_shards
from lcm_scale.data.shards import write_shards
from lcm_scale.data.verify import verify_shards
from lcm_scale.errors import InputError


@pytest.fixture
def series() -> np.ndarray:
    """(200, 8) slow waves, without a jump."""
    return 1000 + np.sin(np.arange(200)[:, None] / 9 + np.arange(8))


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / TABLE, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def change(made: ShardRecipe, scan: int, how: Callable[[np.ndarray], np.ndarray]) -> None:
    file = Path(made.source.table or "").parent / f"scan-of-{scan}-1.npy"
    np.save(file, how(np.load(file)))


def with_fd(made: ShardRecipe, *values: str) -> None:
    table = Path(made.source.table or "")
    head, *lines = table.read_text().splitlines()
    cells = [f"{line},{fd}" for line, fd in zip(lines, values, strict=True)]
    table.write_text("\n".join([f"{head},mean_fd", *cells]) + "\n")


def untidy(made: ShardRecipe) -> ShardRecipe:
    """Scan 2 moves, 3 lacks two regions, 5 is like nobody else."""
    with_fd(made, *("0.1", "0.7", "0.1", "", "0.1", "0.3", "0.2", "0.1"))
    for scan in range(1, 9):  # regions differ in how much they share, as those of a brain do
        shared = 10 * np.random.default_rng(scan).standard_normal((40, 1))
        change(made, scan, lambda x, shared=shared: x + shared * np.arange(6))
    change(made, 3, lambda x: np.where(np.arange(6) < 2, 1000.0, x))
    change(made, 5, lambda x: (x - x.mean(0)) * (-1) ** np.arange(6) + 1000)
    return made


# -- what is measured ------------------------------------------------------------------------------


def test_a_jump_is_a_spike_twice_whatever_the_unit(series: np.ndarray) -> None:
    """There and back: a volume that lies off jumps from the one before it and to the one after."""
    assert spikes(series) == 0
    series[100] += 5
    assert spikes(series) == 2
    assert spikes(1e200 * series) == spikes(series / 1e200) == 2
    assert spikes(series * np.arange(1, 9)) == 2


def test_a_region_without_data_takes_no_part_in_spikes(series: np.ndarray) -> None:
    series[100] += 5
    series[:, 0], series[5, 1] = 3.0, np.nan
    assert spikes(series) == 2


@pytest.mark.parametrize("volumes", [1, 3, 4])
def test_a_handful_of_volumes_has_no_spikes(series: np.ndarray, volumes: int) -> None:
    assert spikes(series[:volumes]) == 0


def test_regions_without_data_and_the_diagonal_are_not_in_the_mean_correlation() -> None:
    matrix = np.array([[1, -0.5, 0, 0.2], [-0.5, 1, 0, 0.8], [0, 0, 0, 0], [0.2, 0.8, 0, 1]])
    assert mean_abs_r(matrix, (2,)) == pytest.approx(0.5)
    assert np.isnan(mean_abs_r(matrix, (0, 1, 2)))


def test_distances_are_numpys_correlations_with_the_mean_of_those_who_count() -> None:
    edges = np.random.default_rng(0).normal(0.3, 0.2, (7, 30)).astype(np.float16)
    edges[2, :9] = 0  # a region without data
    counted = np.array([1, 1, 1, 1, 1, 1, 0], bool)
    found = distances(lambda: iter((edges[:3], edges[3:])), counted)
    exact = edges.astype(np.float64)
    mean = exact[counted].sum(0) / (exact[counted] != 0).sum(0)
    for scan, distance in zip(exact, found, strict=True):
        there = scan != 0
        assert distance == pytest.approx(1 - np.corrcoef(scan[there], mean[there])[0, 1])


def test_an_outlier_does_not_hide_itself_in_the_spread() -> None:
    values = np.array([1.0, 2, 3, 4, 5, 900])
    z = robust_z(values, np.ones(6, bool))
    assert z[-1] > 100 and abs(z[:-1]).max() < 3
    assert not robust_z(np.ones(4), np.ones(4, bool)).any()


# -- who is left out -------------------------------------------------------------------------------


def test_every_scan_is_in_the_table_in_the_order_of_the_set(tiny_recipe) -> None:
    made = untidy(tiny_recipe(people=8))
    write_shards(made)
    folder = Path(made.shards_dir) / made.name
    manifest = read_manifest(folder)
    table = read_table(folder, manifest, read_index(folder, manifest))
    assert table is not None and table.left_out == 0
    assert table.numbers["volumes"].tolist() == [40] * 8
    assert table.numbers["constant_regions"].tolist() == [0, 0, 2, 0, 0, 0, 0, 0]
    assert np.isnan(table.numbers["mean_fd"]).tolist() == [i == 3 for i in range(8)]
    assert table.numbers["distance"].argmax() == 4
    assert [row["subject"] for row in rows_of(folder)] == list(manifest.subjects)
    with h5py.File(folder / f"{made.name}.h5") as file:
        stored = {fact.scan: fact for fact in store.read(file).facts}
    assert set(table.scans) == set(stored)
    for scan, size in zip(table.scans, table.numbers["mean_abs_r"], strict=True):
        assert stored[scan].mean_abs_r == pytest.approx(size, rel=1e-5)


THRESHOLDS = QualityConfig(max_mean_fd=0.5, max_missing_regions=1, max_distance=20.0)
REASONS = {
    "mean framewise displacement above 0.5 mm (quality.max_mean_fd)": 1,
    "more than 1 regions without data (quality.max_missing_regions)": 1,
    "farther than 20 robust standard deviations from the cohort's mean matrix "
    "(quality.max_distance)": 1,
}


def test_each_scan_that_is_left_out_has_its_reason_everywhere(tiny_recipe, capsys) -> None:
    made = untidy(tiny_recipe(people=8, quality=THRESHOLDS))
    manifest = write_shards(made)
    folder = Path(made.shards_dir) / made.name
    assert manifest.scans == manifest.quality["scans"] == len(manifest.subjects) == 5
    assert manifest.quality["skipped"] == REASONS
    assert manifest.quality["constant regions, in scans"] == {}
    for why in REASONS:
        assert f"Left out, 1: {why}." in manifest.notes
    assert "Kept although unknown, 1: scans without what quality.max_mean_fd is about." in (
        manifest.notes
    )
    said = capsys.readouterr().err
    assert all(why in said for why in REASONS)
    assert all(f"scan-of-{scan}-1.npy" in said for scan in (2, 3, 5))
    rows = rows_of(folder)
    assert [bool(row["left_out"]) for row in rows] == [i in (1, 2, 4) for i in range(8)]
    assert {row["left_out"] for row in rows} == {"", *REASONS}
    verify_shards(folder)


def test_the_set_is_as_if_those_who_are_left_out_had_never_been_there(
    tiny_recipe, shard_bytes, tmp_path
) -> None:
    made = untidy(tiny_recipe(people=8, quality=THRESHOLDS))
    write_shards(made)
    folder = Path(made.shards_dir) / made.name
    judged = shard_bytes(folder)
    table = Path(made.source.table or "")
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[i] for i in (0, 1, 4, 6, 7, 8)) + "\n")
    made.quality = QualityConfig()
    write_shards(made)
    plain = shard_bytes(folder)
    for name in ("index.npz", "tiny-000000.tar"):
        assert judged[name] == plain[name]


def test_a_set_that_scans_were_left_out_of_is_repaired_from_its_store(
    tiny_recipe, shard_bytes
) -> None:
    made = untidy(tiny_recipe(people=8, quality=THRESHOLDS, shard_scans=3))
    write_shards(made)
    folder = Path(made.shards_dir) / made.name
    before = shard_bytes(folder)
    (folder / "tiny-000001.tar").unlink()
    assert repair_shards(folder) == ("tiny-000001.tar",)
    assert shard_bytes(folder) == before


def test_a_label_that_only_a_bad_scan_has_is_no_category(tiny_recipe) -> None:
    made = untidy(tiny_recipe(people=8, quality=THRESHOLDS))
    table = Path(made.source.table or "")
    table.write_text(
        "\n".join(
            line.replace("CN", "Rare") if line.startswith("scan-of-2-") else line
            for line in table.read_text().splitlines()
        )
    )
    assert write_shards(made).vocabulary["diagnosis"].labels == ("Autism", "CN")


def test_a_value_at_the_threshold_stays(tiny_recipe) -> None:
    """The store holds single precision, in which .3 is more than .3."""
    made = untidy(tiny_recipe(people=8, quality=QualityConfig(max_mean_fd=0.3)))
    assert write_shards(made).scans == 7


def test_the_question_about_missing_regions_is_asked_of_those_who_stay(tiny_recipe) -> None:
    made = tiny_recipe(people=4, quality=QualityConfig(max_missing_regions=0))
    for scan in (1, 2):
        change(made, scan, lambda x: np.where(np.arange(6) < 1, 1000.0, x))
    assert write_shards(made).scans == 2
    made.quality = QualityConfig()
    with pytest.raises(InputError, match="is missing"):
        write_shards(made)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (QualityConfig(max_mean_fd=0.5), "quality.max_mean_fd=0.5: no scan has a mean framewise"),
        (QualityConfig(max_mean_abs_r=1e-3), r"no scan is left \(6 mean \|r\| above 0.001"),
    ],
)
def test_a_threshold_that_leaves_nobody_or_judges_nobody_is_refused(
    limits: QualityConfig, message: str, tiny_recipe, tmp_path
) -> None:
    with pytest.raises(InputError, match=message):
        write_shards(tiny_recipe(quality=limits))
    assert not list((tmp_path / "shards").iterdir())


def test_spikes_of_ready_matrices_are_not_known(tiny_recipe) -> None:
    made = tiny_recipe()
    made.source.kind = "connectivity"
    for scan in range(1, 7):
        change(made, scan, lambda x: np.corrcoef(x.T))
    write_shards(made)
    folder = Path(made.shards_dir) / made.name
    assert {row["spikes"] for row in rows_of(folder)} == {""}
    made.quality = QualityConfig(max_spikes=3)
    with pytest.raises(InputError, match=r"quality\.max_spikes=3: spikes are counted in series"):
        write_shards(made)


def test_windows_are_judged_one_by_one(tiny_recipe) -> None:
    made = config.load(
        ShardRecipe,
        None,
        [
            *("name=tiny", "reader=table", "atlas=tiny:6", "groups=[{name: diagnosis}]"),
            f"source.table={tiny_recipe(people=3).source.table}",
            *("connectivity.window=20", "connectivity.min_volumes=10", "quality.max_mean_abs_r=.9"),
        ],
    )
    change(made, 2, lambda x: np.where(np.arange(40)[:, None] < 20, x, x[:, :1] + 1e-2 * x))
    manifest = write_shards(made)
    assert manifest.scans == 5 and len(manifest.subjects) == 3
    assert manifest.quality["skipped"] == {"mean |r| above 0.9 (quality.max_mean_abs_r)": 1}


# -- the table as a stranger may hand it over ------------------------------------------------------


def test_a_changed_table_is_refused(tiny_set) -> None:
    folder = tiny_set()
    text = (folder / TABLE).read_text()
    (folder / TABLE).write_text(text.replace("north", "south", 1))
    with pytest.raises(InputError, match=r"quality\.csv: SHA-256 differs"):
        verify_shards(folder)
    (folder / TABLE).unlink()
    with pytest.raises(InputError, match=r"quality\.csv: no such file"):
        verify_shards(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("mean_abs_r", "size"), "expected the columns"),
        (lambda text: text[: text.rindex("\n", 0, -1) + 1], "its scans are not those of the index"),
        (
            lambda text: text.replace(",40,", ",many,", 1),
            "volumes: expected a number, found 'many'",
        ),
        (lambda text: text.replace(",40,", ",inf,", 1), "volumes: expected a number, found 'inf'"),
        (lambda text: text + '"' + "x" * 200_000, "field larger than field limit"),
        (lambda text: "", "its scans are not those of the index"),
    ],
)
def test_a_table_whose_sum_fits_is_still_checked(
    change: Callable[[str], str], message: str, tiny_set
) -> None:
    folder = tiny_set()
    text = change((folder / TABLE).read_text())
    (folder / TABLE).write_text(text)
    made = replace(read_manifest(folder), quality_sha256=hashlib.sha256(text.encode()).hexdigest())
    (folder / MANIFEST).write_text(json.dumps(made.to_json()))
    with pytest.raises(InputError, match=message):
        verify_shards(folder)


def test_names_that_a_spreadsheet_would_run_are_text_in_the_table(tiny_recipe) -> None:
    made = tiny_recipe()
    table = Path(made.source.table or "")
    table.write_text(table.read_text().replace("north", "=1+1"))
    write_shards(made)
    folder = Path(made.shards_dir) / made.name
    assert {row["site"] for row in rows_of(folder)} == {"'=1+1", "south"}
    verify_shards(folder)
