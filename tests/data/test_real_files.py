"""Real files as people have them, from the data folder beside the repository; skipped where it is
absent."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lcm_scale import config
from lcm_scale.atlas import load_atlas
from lcm_scale.config import ConnectivityConfig, DataConfig, GroupConfig, ShardRecipe
from lcm_scale.data.connectivity import connectivity_matrices
from lcm_scale.data.manifest import ShardManifest, read_index
from lcm_scale.data.readers.columns import indices_of
from lcm_scale.data.sets import open_sets
from lcm_scale.data.shards import write_shards
from lcm_scale.data.stream import ResidentEdges
from lcm_scale.data.verify import verify_shards

pytestmark = pytest.mark.shared

PHENOTYPES = "data/abide_phenotypes/Phenotypic_V1_0b_preprocessed1.csv"
DIAGNOSIS = GroupConfig("diagnosis", labels=["CN", "Autism"])


def test_two_native_files_of_the_preprocessed_connectomes_project(
    shared: Path, recipe, read_all
) -> None:
    folder = shared / "data/abide_native_samples/original_1D"
    # 51475 has no FILE_ID in the table: it failed the project's checks.
    made = recipe(dir=folder, phenotypes=shared / PHENOTYPES, atlas="aal116", all_files=True)
    scans, skipped = read_all(made)
    assert [(s.subject, s.site, s.labels["diagnosis"], s.sex) for s in scans] == [
        ("51456", "CALTECH", "Autism", "M"),
        ("51475", "CALTECH", "CN", "M"),
    ]
    assert {s.series.shape for s in scans} == {(145, 116)}
    assert {indices_of(s.columns, load_atlas("aal116"), "") for s in scans} == {
        load_atlas("aal116").indices
    }
    assert len(skipped) == 1112 - 2
    for scan in scans:
        (matrix,) = connectivity_matrices(scan, ConnectivityConfig(), load_atlas("aal116"))
        assert np.allclose(matrix.values, np.corrcoef(scan.series, rowvar=False), atol=1e-5)


def test_six_native_matlab_files(shared: Path, recipe) -> None:
    folder = shared / "data/abide_native_samples/original_mat"
    manifest = write_shards(
        recipe(
            reader="mat",
            dir=folder,
            phenotypes=shared / PHENOTYPES,
            atlas="aal116",
            cohort="abide",
            groups=[DIAGNOSIS],
        )
    )
    assert (manifest.scans, len(manifest.subjects)) == (6, 6)
    assert manifest.quality["skipped"] == {"table row without a file": 1112 - 6}
    sets = open_sets(DataConfig(sets=["tiny"]))
    first = scipy.io.loadmat(folder / "50003.mat")["ROISignals"]
    expected = np.corrcoef(first, rowvar=False)[np.triu_indices(116, 1)]
    assert np.abs(ResidentEdges(sets).edges[0] - expected).max() < 1e-3


def test_resting_bold_of_94_regions_in_windows(
    shared: Path, recipe, read_all, write_csv, tmp_path
) -> None:
    folder = shared / "data/real_bold_aal2"
    rows = [{"subject": p.stem, "site": p.stem.split("_")[0]} for p in sorted(folder.glob("*.mat"))]
    made = recipe(
        reader="mat",
        dir=folder,
        table=write_csv(tmp_path / "people.csv", rows),
        key="tc",
        atlas="aal2:94",
        connectivity=ConnectivityConfig(window=500),
        groups=[GroupConfig("site", merge=False)],
        cohort="bold",
    )
    scans, _ = read_all(made)
    assert sorted({s.series.shape for s in scans}) == [(355, 94), (1200, 94)]
    manifest = write_shards(made)
    assert (manifest.scans, len(manifest.subjects)) == (3 + 4 * 3, 7)
    index = read_index(tmp_path / "shards" / "tiny", manifest)
    assert sorted(index.volumes.tolist()) == [200] * 4 + [355] * 3 + [500] * 8
    assert manifest.quality["constant regions, in scans"] == {}


def test_a_window_of_a_person_is_likest_to_another_of_hers(shared: Path, recipe, write_csv) -> None:
    """Fingerprinting (Finn et al. 2015): windows, regions and people were not mixed up on the
    way."""
    pad = ConnectivityConfig(window=500, pad="drop")
    made = recipe(
        reader="mat", dir=shared / "data/real_bold_aal2", pattern="hcp_*.mat", atlas="aal2:94"
    )
    made.connectivity, made.groups, made.source.table = pad, [GroupConfig("site")], "people.csv"
    write_csv(
        Path("people.csv"),
        [{"subject": p.stem, "site": "hcp"} for p in Path(made.source.dir).glob("hcp_*")],
    )
    write_shards(made)
    sets = open_sets(DataConfig(sets=["tiny"]))
    likeness = np.corrcoef(ResidentEdges(sets).edges.astype(np.float64))
    np.fill_diagonal(likeness, -1)
    assert np.array_equal(sets.subject[likeness.argmax(1)], sets.subject)


@pytest.fixture
def written(shared: Path, tmp_path: Path):
    """`written("taowu", 4)`: the first scans of a real set, in the layout of its source."""

    def write(name: str, scans: int | None = None) -> Path:
        tool, out = shared / "tools/write_sets.py", tmp_path / "raw" / name
        command = [sys.executable, str(tool), name, str(out)]
        subprocess.run(
            [*command, *(["--scans", str(scans)] if scans else [])], check=True, capture_output=True
        )
        return out

    return write


def shipped(name: str, *overrides: str) -> ShardManifest:
    """A shipped recipe, carried out."""
    recipe = Path(__file__).parents[2] / f"recipes/data/{name}.yaml"
    return write_shards(config.load(ShardRecipe, recipe, list(overrides)))


def test_of_sixty_native_files_those_without_a_file_id_are_left_out(shared: Path, written) -> None:
    keys = (f"source.dir={written('abide-native', 60)}", f"source.phenotypes={shared / PHENOTYPES}")
    kept = shipped("abide", *keys)
    every = shipped("abide", *keys, "source.all_files=true", "name=every")
    left_out = 60 - kept.scans
    assert left_out > 0
    assert every.scans == 60
    assert kept.notes[1].startswith(f"Left out, {left_out}: ")
    assert every.notes[1].startswith(f"{left_out} of 60 scans: ")
    assert kept.vocabulary["fiq"].unit == "IQ points"


def test_ledoit_wolf_of_the_series_is_what_the_collection_ships(written, tmp_path) -> None:
    folder = written("taowu", 6) / "taowu"
    matrices = {}
    for kind, key in (
        ("series", "ledoit-wolf"),
        ("connectivity", "ledoit-wolf"),
        ("series", "pearson"),
    ):
        name = f"{kind}-{key}"
        manifest = shipped(
            "taowu",
            f"source.dir={folder}",
            f"source.kind={kind}",
            f"connectivity.kind={key}",
            f"name={name}",
            "dtype=float32",
        )
        assert (manifest.scans, manifest.connectivity["kind"]) == (6, key)
        matrices[name] = ResidentEdges(open_sets(DataConfig(sets=[name]))).edges
    # The data folder keeps the matrices in half precision.
    assert (
        np.abs(matrices["series-ledoit-wolf"] - matrices["connectivity-ledoit-wolf"]).max() < 2e-3
    )
    assert np.abs(matrices["series-pearson"] - matrices["connectivity-ledoit-wolf"]).max() > 0.05


def test_the_collections_people_have_group_sex_and_age(written) -> None:
    folder = written("auckland", 40)
    abide = shipped("auckland_abide", f"source.dir={folder / 'abide'}")
    ppmi = shipped("ppmi", f"source.dir={folder / 'ppmi'}")
    assert abide.scans + ppmi.scans == 40
    assert ppmi.vocabulary["diagnosis"].labels == ("CN", "PD", "prodromal", "SWEDD")
    sets = open_sets(DataConfig(sets=["auckland-abide", "ppmi"]))
    columns = [sets.vocabulary.names.index(name) for name in ("sex", "age")]
    assert np.isfinite(sets.labels[:, columns]).all()


def test_eyes_open_and_closed_are_of_one_person(written) -> None:
    manifest = shipped("eyes", f"source.dir={written('eyes', 8)}")
    assert (manifest.scans, len(manifest.subjects)) == (8, 4)


@pytest.mark.slow
def test_all_1035_native_scans_are_sharded_in_under_a_minute(shared: Path, written) -> None:
    folder = written("abide-native")
    start = time.perf_counter()
    manifest = shipped("abide", f"source.dir={folder}", f"source.phenotypes={shared / PHENOTYPES}")
    assert time.perf_counter() - start < 60
    assert (manifest.scans, len(manifest.subjects), manifest.simulated) == (1035, 1035, False)
    assert len(manifest.vocabulary["site"].labels) == 20
    # UM_1 50279 and 50286, Yale 50578 and 50602: nearly one scan each, under two ids.
    assert manifest.quality["pairs of people with nearly the same scan"] == 2


@pytest.mark.slow
def test_all_884_scans_are_sharded_in_under_two_minutes(shared: Path, recipe, tmp_path) -> None:
    start = time.perf_counter()
    tool = shared / "tools/write_abide_1d.py"
    subprocess.run(
        [sys.executable, str(tool), str(tmp_path / "raw")], check=True, capture_output=True
    )
    manifest = write_shards(
        recipe(
            dir=tmp_path / "raw",
            phenotypes=shared / PHENOTYPES,
            atlas="aal116",
            cohort="abide",
            connectivity=ConnectivityConfig(accept_missing=[9051, 9052]),
            groups=[DIAGNOSIS, GroupConfig("site", merge=False)],
        )
    )
    assert time.perf_counter() - start < 120
    assert (manifest.scans, len(manifest.subjects), manifest.simulated) == (884, 884, False)
    assert len(manifest.vocabulary["site"].labels) == 20
    constant = manifest.quality["constant regions, in scans"]
    assert {name for name, scans in constant.items() if scans == 884} == {
        "Cerebelum_7b_L (9051)",
        "Cerebelum_7b_R (9052)",
    }
    assert verify_shards(tmp_path / "shards" / "tiny") == manifest
    sets = open_sets(DataConfig(sets=["tiny"]))
    with np.load(shared / "data/abide884_aal116/fc_triu_fp16.npz") as archive:
        given = dict(archive)
    with (shared / "data/abide884_aal116/labels.tsv").open(newline="") as handle:
        rows = sorted(
            csv.DictReader(handle, delimiter="\t"), key=lambda row: str(int(row["SUB_ID"]))
        )
    codes = sets.labels[:, sets.vocabulary.names.index("diagnosis")]
    assert codes.tolist() == [2.0 if row["DX_GROUP"] == "1" else 1.0 for row in rows]
    place = {int(subject): i for i, subject in enumerate(given["ids"])}
    expected = given["fc"][[place[int(row["SUB_ID"])] for row in rows]].astype(np.float32)
    assert (
        np.abs(ResidentEdges(sets).edges - expected).max() < 5e-3
    )  # theirs and ours both went through half precision
