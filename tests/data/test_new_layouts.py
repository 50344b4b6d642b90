"""`lcm-scale new` on the layouts of pipelines: CONN, DPABI, giga_connectome, fMRIPrep, and stacks.

The files are those of the readers' tests, which name their sources.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from lcm_scale import config
from lcm_scale.config import ShardRecipe
from lcm_scale.data.manifest import read_manifest

PEOPLE = 6


@pytest.fixture
def new(lcm) -> Callable[[str], tuple[str, Path]]:
    """`new("folder")`: what it said, and its shard recipe's file."""

    def call(folder: str) -> tuple[str, Path]:
        code, said, error = lcm(f"new {folder} --name it")
        assert code == 0, error
        return said, Path("recipes/data/it.yaml")

    return call


def people(path: Path, write_csv, **more: Callable[[int], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"subject": f"S{i}", "group": "ab"[i % 2], "age": 20 + i}
        | {name: value(i) for name, value in more.items()}
        for i in range(1, PEOPLE + 1)
    ]
    write_csv(path, rows)


def answered(path: Path, line: str) -> None:
    """Take the # from a line of the recipe."""
    text = path.read_text()
    assert f"# {line}" in text
    path.write_text(text.replace(f"# {line}", line))


def cells(items: list[object]) -> np.ndarray:
    made = np.empty((1, len(items)), dtype=object)
    made[0, :] = items
    return made


def conn(folder: Path, bold, files: tuple[str, ...]) -> None:
    folder.mkdir()
    for number in range(1, PEOPLE + 1):
        series = bold(number)
        names = [f"{file}.r{i} (Region {i})" for file in files for i in range(series.shape[1])]
        words: list[object] = ["Grey Matter", *names, "Effect of rest"]
        columns = [series[:, [i]] for _ in files for i in range(series.shape[1])]
        data: list[object] = [np.ones((40, 1)), *columns, np.ones((40, 1))]
        path = folder / f"ROI_Subject{number:03d}_Condition001.mat"
        scipy.io.savemat(path, {"data": cells(data), "names": cells(words)})


def test_conn_with_its_names_of_regions(bold, new, lcm, write_csv, tmp_path) -> None:
    conn(tmp_path / "conn", bold, ("atlas",))
    people(tmp_path / "people.csv", write_csv, conn_subject=lambda i: i)
    said, path = new("conn")
    assert "CONN's region series" in said and "6 of 6 people" in said
    code, _, error = lcm(f"shard {path}")
    assert code == 0, error
    manifest = read_manifest(Path("shards/it"))
    assert manifest.atlas.names[0] == "r0 (Region 0)" and manifest.scans == PEOPLE


def test_conn_with_two_roi_files_is_a_question(bold, new, lcm, write_csv, tmp_path) -> None:
    conn(tmp_path / "conn", bold, ("atlas", "networks"))
    people(tmp_path / "people.csv", write_csv, conn_subject=lambda i: i)
    said, path = new("conn")
    assert "regions of several ROI files, atlas (6), networks (6)" in said
    assert "6 of 6 people" in said  # counted as if the first were meant
    code, _, error = lcm(f"shard {path}")
    assert code == 2 and "source.rois" in error
    answered(path, "rois: atlas")
    assert lcm(f"shard {path}")[0] == 0


def dpabi(folder: Path, bold, kinds: tuple[str, ...], codes: list[int] | None = None) -> None:
    folder.mkdir(parents=True)
    for i in range(1, PEOPLE + 1):
        series = bold(i, 40, len(codes) if codes else 6)
        r = np.corrcoef(series.T)
        np.fill_diagonal(r, 0.0)
        of = {"ROISignals": series, "ROICorrelation": r + np.eye(len(r))}
        of["ROICorrelation_FisherZ"] = np.arctanh(r)
        for kind in kinds:
            scipy.io.savemat(folder / f"{kind}_S{i}.mat", {kind: of[kind]})
        if codes:
            lines = [f"{n}\t{code}\tr{code}" for n, code in enumerate(codes, 1)]
            text = "\n".join(["Order\tLabel in Mask\tROI Definition", *lines])
            (folder / f"ROI_OrderKey_S{i}.tsv").write_text(text + "\n")


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        (("ROISignals", "ROICorrelation"), "series"),
        (("ROICorrelation", "ROICorrelation_FisherZ"), "connectivity"),
        (("ROICorrelation_FisherZ",), "connectivity"),
    ],
)
def test_dpabi(kinds, kind, bold, new, lcm, write_csv, tmp_path) -> None:
    dpabi(tmp_path / "Results" / "ROISignals_X", bold, kinds)
    people(tmp_path / "Results" / "people.csv", write_csv)
    said, path = new("Results/ROISignals_X")
    assert "DPABI or DPARSF" in said and "6 of 6 people" in said
    recipe = config.load(ShardRecipe, path)
    assert recipe.source.kind == kind
    assert recipe.source.fisher_z == (kinds == ("ROICorrelation_FisherZ",))
    code, _, error = lcm(f"shard {path}")
    assert code == 0, error


def test_dpabi_s_order_key_tells_the_atlas(bold, new, write_csv, tmp_path) -> None:
    from lcm_scale.atlas import load_atlas

    dpabi(tmp_path / "d", bold, ("ROISignals",), list(load_atlas("aal116").indices))
    _, path = new("d")
    assert config.load(ShardRecipe, path).atlas == "aal116"


def test_series_that_are_called_like_dpabi_s_are_anybody_s(bold, new, tmp_path) -> None:
    (tmp_path / "eyes").mkdir()
    for i in range(8):
        np.savetxt(tmp_path / "eyes" / f"ROISignals_{('EC', 'EO')[i % 2]}0{i // 2}.txt", bold(i))
    assert config.load(ShardRecipe, new("eyes")[1]).reader == "names"


def test_giga_connectome_with_two_parcellations(bold, new, lcm, write_csv, tmp_path) -> None:
    (tmp_path / "giga").mkdir()
    for i in range(1, PEOPLE + 1):
        series = bold(i)
        with h5py.File(tmp_path / "giga" / f"sub-S{i}_atlas-MIST_desc-simple.h5", "w") as file:
            for n in (6, 5):
                stem = f"sub-S{i}/sub-S{i}_task-rest_atlas-MIST_desc-{n}"
                file[f"{stem}_timeseries"] = series[:, :n]
                file[f"{stem}_connectome"] = np.corrcoef(series[:, :n].T)
    people(tmp_path / "giga" / "people.csv", write_csv)
    said, path = new("giga")
    assert "giga_connectome" in said and "which is meant? It is the atlas below" in said
    assert "MIST:5" in said and "MIST:6" in said
    code, _, error = lcm(f"shard {path}")
    assert code == 0, error


def fmriprep(folder: Path, spaces: tuple[str, ...]) -> None:
    for i in range(1, 4):
        func = folder / f"sub-{i}" / "func"
        func.mkdir(parents=True)
        for space in spaces:
            name = f"sub-{i}_task-rest_space-{space}_desc-preproc_bold.nii.gz"
            (func / name).touch()


def test_fmriprep_asks_for_the_image_of_regions(new, lcm, write_csv, tmp_path) -> None:
    fmriprep(tmp_path / "fmriprep", ("T1w", "MNI152NLin6Asym", "MNI152NLin2009cAsym"))
    rows = [{"participant_id": f"sub-{i}", "age": 20 + i} for i in range(1, 4)]
    write_csv(tmp_path / "participants.tsv", rows)
    said, path = new("fmriprep")
    assert "fMRIPrep's images, 6 of them in a template's space" in said
    text = path.read_text()
    assert "# labels_image: FILE.nii.gz" in text and "3 images of persons' own spaces" in text
    assert "entities: {space: MNI152NLin6Asym}" in text and "T1w}" not in text
    code, _, error = lcm(f"shard {path} --dry-run")
    assert code == 2 and "source.labels_image is not set" in error


def test_raw_images_are_nothing_that_new_knows(lcm, tmp_path) -> None:
    func = tmp_path / "raw" / "sub-1" / "func"
    func.mkdir(parents=True)
    (func / "sub-1_task-rest_bold.nii.gz").touch()
    code, _, error = lcm("new raw")
    assert code == 2 and "no layout that is known" in error


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
@pytest.mark.parametrize("ready", [False, True])
def test_a_stack(suffix, ready, bold, new, lcm, write_csv, tmp_path) -> None:
    stack = np.stack([bold(i) for i in range(1, PEOPLE + 1)])
    stack = np.stack([np.corrcoef(series.T) for series in stack]) if ready else stack
    (tmp_path / "st").mkdir()
    path = tmp_path / "st" / f"all{suffix}"
    held = {"tc": stack, "ids": np.array([f"S{i}" for i in range(1, PEOPLE + 1)])}
    if suffix == ".npy":
        np.save(path, stack)
    elif suffix == ".npz":
        np.savez(path, **held)
    else:
        scipy.io.savemat(path, held)
    people(tmp_path / "st" / "people.csv", write_csv)
    said, recipe = new("st")
    assert "many scans in one array" in said and "6 of 6 people" in said
    code, _, error = lcm(f"shard {recipe} --dry-run")
    assert code == 2 and "source.stack is not set" in error
    answered(recipe, "stack: first")
    answered(recipe, "ids: rows")
    code, _, error = lcm(f"shard {recipe}")
    assert code == 0, error
    assert config.load(ShardRecipe, recipe).atlas == "regions:6"


def test_a_stack_whose_variable_lists_the_ids(bold, new, lcm, tmp_path) -> None:
    stack = np.stack([bold(i) for i in range(3)], axis=2)
    np.savez(tmp_path / "all.npz", tc=stack, ids=np.array(["x", "y", "z"]))
    _, recipe = new("all.npz")
    answered(recipe, "stack: last")
    answered(recipe, "ids: ids")
    code, said, error = lcm(f"shard {recipe} --dry-run")
    assert code == 0 and "3 scans are listed" in said, error
