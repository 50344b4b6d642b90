"""`lcm-scale new FOLDER` on every layout at hand: what it says, and that its recipes run as they
are written, or ask in the dry run.

The layouts are those of the readers' tests, which name their sources.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from lcm_scale import config
from lcm_scale.config import Recipe, ShardRecipe
from lcm_scale.data.manifest import read_manifest
from lcm_scale.layouts.names import expression_of
from lcm_scale.layouts.recipes import value_of

NAMES = [f"region {i}" for i in range(1, 7)]
GORDON = "gordon333"


@pytest.fixture
def runs(lcm) -> Callable[..., tuple[str, ShardRecipe]]:
    """`runs("raw", "name")`: new, the dry run and the shards, all without an edit."""

    def call(folder: str, name: str) -> tuple[str, ShardRecipe]:
        code, said, error = lcm(f"new {folder} --name {name}")
        assert code == 0, error
        for line in (
            f"shard recipes/data/{name}.yaml --dry-run",
            f"shard recipes/data/{name}.yaml",
        ):
            assert line in said
            code, _, error = lcm(line)
            assert code == 0, error
        assert config.load(Recipe, f"recipes/{name}.yaml").name == name
        assert f"next: lcm-scale evaluate recipes/{name}.yaml" in said
        return said, config.load(ShardRecipe, f"recipes/data/{name}.yaml")

    return call


def write(path: Path, values: np.ndarray, header: list[str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    line = "\t".join(header or [])
    np.savetxt(path, values, fmt="%.6f", delimiter="\t", header=line, comments="")
    if not header:
        path.write_text(path.read_text().lstrip("\n"))


def test_a_table_that_lists_scans(tiny_recipe, runs) -> None:
    tiny_recipe("lab", people=8)
    said, recipe = runs("raw/lab", "lab")
    assert "scans            8 of 8 people" in said
    assert "age              21 to 28 years" in said and "sex              F 4, M 4" in said
    assert [group.name for group in recipe.groups] == ["site"]  # diagnosis divides them alike
    assert recipe.atlas == "regions:6"


def test_abide(abide_folder, runs) -> None:
    abide_folder(8)
    said, recipe = runs("raw", "tiny")
    assert "ABIDE, as the Preprocessed Connectomes Project gives it" in said
    assert {group.name for group in recipe.groups} >= {"diagnosis", "site"}
    assert config.load(Recipe, "recipes/tiny.yaml").evaluate.target == "diagnosis"


@pytest.mark.parametrize("kind", ["features_timeseries", "correlation_matrix"])
def test_a_set_of_the_auckland_collection(kind, bold, write_csv, runs, tmp_path) -> None:
    rows = []
    for i, group in enumerate(("control", "patient") * 3):
        place = tmp_path / "col" / "taowu" / f"sub-{group}{i:06d}"
        place.mkdir(parents=True)
        series = bold(i, 150, 116)
        values = series if kind == "features_timeseries" else np.corrcoef(series.T)
        scipy.io.savemat(place / f"{place.name}_AAL116_{kind}.mat", {"data": values})
        rows.append({"Subject": f"{group}{i:06d}", "Group": group, "Sex": "MF"[i % 2], "Age": 60})
    write_csv(tmp_path / "col" / "taowu_metadata.csv", rows)
    said, recipe = runs("col", "taowu")
    assert recipe.atlas == "aal116" and "6 of 6 people" in said
    series = kind == "features_timeseries"
    assert recipe.connectivity.kind == ("pearson" if series else "ledoit-wolf")


def test_files_named_by_person_and_state(bold, runs, tmp_path) -> None:
    for i in range(8):
        write(tmp_path / "eyes" / f"ROISignals_{('EC', 'EO')[i % 2]}0{i // 2}.txt", bold(i))
    said, recipe = runs("eyes", "eyes")
    assert "8 of 4 people" in said
    assert [group.labels for group in recipe.groups] == [["EC", "EO"]]
    text = Path("recipes/data/eyes.yaml").read_text()
    assert "# QUESTION: which atlas are the 6 columns of" in text


def test_matlab_files_with_a_table_of_people(bold, write_csv, runs, tmp_path) -> None:
    rows = []
    for i in range(6):
        (tmp_path / "mat").mkdir(exist_ok=True)
        series = bold(i, 40 + i).T
        scipy.io.savemat(tmp_path / "mat" / f"hcp_10{i}.mat", {"bold": series, "tr": 2.0})
        rows.append({"subject": f"10{i}", "group": "ab"[i % 2], "iq": 90 + i})
    write_csv(tmp_path / "mat" / "people.csv", rows)
    _, recipe = runs("mat", "m")
    assert recipe.source.key == "bold" and recipe.atlas == "regions:6"
    assert [group.name for group in recipe.groups] == ["group"]


def bids(folder: Path, bold, write_csv, atlases: tuple[str, ...] = ("4S156Parcels",)) -> Path:
    for i in range(8):
        func = folder / "derivatives" / "xcp_d" / f"sub-{i}" / "func"
        for atlas in atlases:
            stem = f"sub-{i}_task-rest_space-fsLR_seg-{atlas}_stat-mean_timeseries"
            write(func / f"{stem}.tsv", bold(i), NAMES)
            (func / f"{stem}.json").write_text(json.dumps({"RepetitionTime": 2.0}))
    rows = [
        {"participant_id": f"sub-{i}", "age": 20 + i, "sex": "MF"[i % 2], "group": "ab"[i // 4]}
        for i in range(8)
    ]
    write_csv(folder / "participants.tsv", rows)
    return folder / "derivatives" / "xcp_d"


def test_bids_derivatives_with_the_regions_of_their_header(bold, write_csv, runs, tmp_path) -> None:
    bids(tmp_path / "ds", bold, write_csv)
    said, recipe = runs("ds/derivatives/xcp_d", "ds")
    assert "BIDS derivatives in xcp_d, series" in said and "repetition time  2 s" in said
    assert recipe.atlas == "recipes/data/ds_regions.csv"
    assert read_manifest(Path("shards/ds")).atlas.names == tuple(NAMES)
    assert [group.name for group in recipe.groups] == ["group"]


def test_the_pipeline_s_own_table_of_regions_is_taken(bold, write_csv, runs, tmp_path) -> None:
    folder = bids(tmp_path / "ds", bold, write_csv)
    rows = [{"index": 10 * i, "label": name} for i, name in enumerate(NAMES, 1)]
    place = folder / "atlases" / "atlas-4S156Parcels" / "atlas-4S156Parcels_dseg.tsv"
    write_csv(place, rows)
    _, recipe = runs("ds/derivatives/xcp_d", "ds")
    assert recipe.atlas.endswith("atlas-4S156Parcels_dseg.tsv")
    assert not Path("recipes/data/ds_regions.csv").exists()


def test_what_a_folder_does_not_tell_is_a_question_that_the_dry_run_asks(
    bold, write_csv, lcm, tmp_path
) -> None:
    bids(tmp_path / "ds", bold, write_csv, ("4S156Parcels", "Tian"))
    code, said, _ = lcm("new ds")
    assert code == 0 and "8 of 8 people" in said
    assert "question 1       the files of a scan differ in atlas" in said
    path = Path("recipes/data/ds.yaml")
    assert "# entities: {atlas: Tian}" in path.read_text()
    code, _, error = lcm(f"shard {path} --dry-run")
    assert code == 2 and "differ in atlas (4S156Parcels, Tian)" in error
    path.write_text(
        path.read_text().replace("# entities: {atlas: Tian}", "entities: {atlas: Tian}")
    )
    assert lcm(f"shard {path} --dry-run")[0] == 0


def test_files_with_the_names_of_a_built_in_atlas(bold, tmp_path, lcm) -> None:
    from lcm_scale.atlas import load_atlas

    names = list(load_atlas(GORDON).names)
    for i in range(3):
        write(tmp_path / "g" / f"s{i}.tsv", bold(i, 20, 333), names[::-1])
    assert lcm("new g")[0] == 0
    assert config.load(ShardRecipe, "recipes/data/g.yaml").atlas == GORDON


def test_nothing_is_overwritten(abide_folder, lcm) -> None:
    abide_folder(4)
    assert lcm("new raw --name one")[0] == 0
    before = Path("recipes/data/one.yaml").read_bytes()
    code, _, error = lcm("new raw --name one")
    assert code == 2 and "recipes/data/one.yaml: exists and is left alone" in error
    assert Path("recipes/data/one.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("new empty", "empty: no layout that is known; looked for"),
        ("new nowhere", "nowhere: no such folder"),
        ("new raw --name a.b", "--name a.b: a shard set's name holds"),
    ],
)
def test_what_is_not_recognised_is_one_line(line, error, abide_folder, lcm, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    abide_folder(2)
    code, out, err = lcm(line)
    assert (code, out) == (2, "") and error in err and len(err.splitlines()) == 1
    assert not Path("recipes").exists()


def test_a_missing_phenotype_table_is_a_question(abide_folder, lcm) -> None:
    (abide_folder(4) / "phenotypes.csv").unlink()
    code, said, _ = lcm("new raw --name r")
    assert code == 0 and "where is the phenotype CSV?" in said
    assert "# phenotypes: FILE.csv" in Path("recipes/data/r.yaml").read_text()
    assert lcm("shard recipes/data/r.yaml --dry-run")[0] == 2


def test_words_of_a_stranger_s_table_stay_in_their_comment(tmp_path, write_csv, bold, lcm) -> None:
    rows = []
    for i in range(6):
        write(tmp_path / "t" / f"{i}.txt", bold(i))
        word = ("yes", 'no"\nreader: abide')[i % 2]
        rows.append({"file": f"{i}.txt", "subject": i, "reply": word})
    write_csv(tmp_path / "t" / "scans.csv", rows)
    assert lcm("new t")[0] == 0
    recipe = config.load(ShardRecipe, "recipes/data/t.yaml")
    assert recipe.reader == "table"
    assert lcm("shard recipes/data/t.yaml --dry-run")[0] == 0


@pytest.mark.parametrize(
    ("stems", "expression"),
    [
        (["EC01", "EO02"], "(?P<run>(?P<condition>[A-Za-z]+))(?P<subject>[0-9]+)"),
        (["a-1.x", "a-22.x"], r"a\-(?P<subject>[0-9]+)\.x"),
        (["a1_2", "a2_3"], None),
        (["one"], None),
        (["a1", "b"], None),
    ],
)
def test_names_tell_the_person_where_one_number_differs(stems, expression) -> None:
    assert expression_of(stems) == expression


@pytest.mark.parametrize("word", ["yes", "No", "1", "a: b", "x # y", "", "-", "ä", "null", "a\\b"])
def test_yaml_reads_a_written_value_as_the_text_it_is(word: str) -> None:
    from omegaconf import OmegaConf

    assert OmegaConf.create(f"key: {value_of(word)}")["key"] == word


@pytest.mark.parametrize("which", ["abide-native", "auckland", "taowu", "eyes"])
def test_new_on_real_files(which: str, shared: Path, lcm, tmp_path) -> None:
    tool = shared / "tools" / "write_sets.py"
    subprocess.run(
        [sys.executable, str(tool), which, "raw", "--scans", "12"], check=True, capture_output=True
    )
    folder = {"auckland": "raw/ppmi", "taowu": "raw/taowu"}.get(which, "raw")
    if which == "abide-native":
        table = shared / "data" / "abide_phenotypes" / "Phenotypic_V1_0b_preprocessed1.csv"
        Path("raw/phenotypes.csv").symlink_to(table)
    code, _, error = lcm(f"new {folder} --name real")
    assert code == 0, error
    code, _, error = lcm("shard recipes/data/real.yaml --dry-run")
    assert code == 0, error
