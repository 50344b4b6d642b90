"""`lcm-scale predict`: the answers of a Predictor for files that nobody has labelled, whom it marks,
what it refuses, and that nothing is left half-written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lcm_scale import config
from lcm_scale.atlas import numbered
from lcm_scale.config import Recipe, ShardRecipe
from lcm_scale.data.readers.simulated import PHENOTYPES
from lcm_scale.data.sets import open_sets
from lcm_scale.data.stream import open_edges
from lcm_scale.inference.incoming import listed, read
from lcm_scale.inference.predictor import Predictor
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
Lcm = Callable[[str], tuple[int, str, str]]
MEMORY = (
    "model.people_memory=linear",
    "model.context=[site, eye_status]",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 1}]",
)
OLD = Path(__file__).parents[1] / "formats" / "0.1.0"
FORMS = "groups: [{name: eye_status, merge: false}, {name: diagnosis, labels: [CN, Autism]}]"


@pytest.fixture(scope="module")
def own(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Of the model that most tests ask."""
    words = [
        f"runs_dir={tmp_path_factory.mktemp('trained')}",
        f"data.shards_dir={world}/shards",
        "data=first",
        "name=run",
        *("model.width=16", "model.heads=2", "model.ffn=16"),
        *("trainer.global_batch=8", "trainer.threads=1", "objective.scalar_scale=standardised"),
        *MEMORY,
    ]
    return config.load(Recipe, None, words)


@pytest.fixture(scope="module")
def folder(own: Recipe) -> Path:
    """Its run."""
    return run.pretrain(own)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def files(world: Path, here: Path) -> Path:
    """The recipe of the very files that `first` was made of, read as anybody's."""
    raw = world / "raw" / "first"
    path = here / "files.yaml"
    path.write_text(
        f"name: first\ncohort: toy\nreader: abide\natlas: 'toy:12'\n{FORMS}\n"
        f"source: {{dir: {raw}, phenotypes: {raw / PHENOTYPES}, tr: 2.0}}\n"
    )
    return path


@pytest.fixture
def series(world: Path, here: Path) -> Path:
    """A folder with some of the series and a table of their file and subject, without any label."""
    folder = here / "new"
    folder.mkdir()
    with (world / "raw" / "first" / PHENOTYPES).open() as table:
        people = [row for row in csv.DictReader(table) if row["FILE_ID"] != "no_filename"][:7]
    lines = ["file,subject"]
    for row in people:
        (file,) = (world / "raw" / "first").glob(f"{row['FILE_ID']}_rois_*.1D")
        np.savetxt(folder / f"{row['SUB_ID']}.txt", np.loadtxt(file))
        lines.append(f"{row['SUB_ID']}.txt,{row['SUB_ID']}")
    (folder / "scans.csv").write_text("\n".join(lines) + "\n")
    return folder / "scans.csv"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as table:
        return list(csv.DictReader(table))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_files_are_answered_as_a_predictor_answers_the_set_made_of_them(
    own: Recipe, folder: Path, files: Path, here: Path, lcm: Lcm
) -> None:
    code, out, err = lcm(f"predict {folder} {files} -o p.csv")
    assert (code, "no diagnosis" in out) == (0, True), err
    sets = open_sets(own.data)
    model = checkpoints.load(folder)
    asked = [("diagnosis", ("CN", "Autism")), ("age", ())]
    predictor = Predictor(sets, open_edges(sets, 1.0), own)
    diagnosis, age = predictor.answers(model, np.arange(sets.n_scans), asked)
    found = rows(here / "p.csv")
    assert len(found) == sets.n_scans
    assert [row["subject"] for row in found] == [sets.subjects[s] for s in sets.subject]
    ours = [[float(row[f"p(diagnosis={c})"]) for c in ("CN", "Autism")] for row in found]
    np.testing.assert_allclose(ours, diagnosis, rtol=2e-5)
    np.testing.assert_allclose([float(r["answer: age (years)"]) for r in found], age, rtol=2e-5)
    assert {row["in_training"] for row in found} == {"yes"}
    told = {row["context: eye_status"] for row in found}
    assert told == {"", "open", "closed"}, "context is read, missing words stay missing"
    lcm(f"predict {folder} {sets.folders[0]} -o set.csv")
    same = ["subject", "scan", "p(diagnosis=CN)", "answer: age (years)", "context: site", "flags"]
    of_set = rows(here / "set.csv")
    assert [[r[c] for c in same] for r in of_set] == [[r[c] for c in same] for r in found]


def test_labels_are_not_needed_and_not_read(
    folder: Path, series: Path, here: Path, lcm: Lcm
) -> None:
    code, _, err = lcm(f"predict {folder} {series} atlas=toy:12 -o p.csv --ids")
    assert code == 0, err
    found = rows(here / "p.csv")
    assert len(found) == 7
    assert all(row["id"] and row["file"] == f"{row['id']}.txt" for row in found)
    assert {row["context_not_known"] for row in found} == {"site; eye_status"}
    assert {row["in_training"] for row in found} == {"perhaps"}, "the same ids, another study"
    lcm(f"predict {folder} {series} atlas=toy:12 cohort=toy -o q.csv")
    assert {row["in_training"] for row in rows(here / "q.csv")} == {"yes"}
    assert "id" not in rows(here / "q.csv")[0]
    raw = [row["id"] for row in found]
    about = (here / "q.csv").read_text() + (here / "q.json").read_text()
    assert not any(name in about for name in raw)
    word = series.read_text().splitlines()
    series.write_text("\n".join([f"{word[0]},diagnosis", *(f"{w},NONSENSE" for w in word[1:])]))
    lcm(f"predict {folder} {series} atlas=toy:12 cohort=toy -o r.csv")
    assert (here / "r.csv").read_text() == (here / "q.csv").read_text()


def test_the_file_beside_it_says_first_that_it_is_no_diagnosis(
    folder: Path, files: Path, here: Path, lcm: Lcm
) -> None:
    lcm(f"predict {folder} {files} -o p.csv")
    about = json.loads((here / "p.json").read_text())
    assert next(iter(about)) == "Notice"
    assert "no diagnosis" in about["Notice"] and "SIMULATED" in about["Notice"]
    assert set(rows(here / "p.csv")[0]) <= set(about)
    assert about["answer: age (years)"]["Units"] == "years"
    assert about["answer: diagnosis"]["Levels"] == ["CN", "Autism"]
    assert about["Model"]["People"] == 37 and about["distance"]["Threshold"] > 0


def test_exported_models_answer_alike_and_say_that_nobody_can_be_compared(
    folder: Path, files: Path, here: Path, lcm: Lcm
) -> None:
    lcm(f"export hub {folder} {here}/given")
    lcm(f"predict {folder} {files} -o p.csv")
    code, _, err = lcm(f"predict {here}/given {files} -o g.csv")
    assert code == 0, err
    ours, theirs = rows(here / "p.csv"), rows(here / "g.csv")
    assert {row.pop("in_training") for row in theirs} == {"unknown"}
    assert theirs == [{k: v for k, v in row.items() if k != "in_training"} for row in ours]


def test_a_model_of_an_earlier_version_has_no_distance_and_that_is_said(
    here: Path, lcm: Lcm
) -> None:
    code, out, err = lcm(f"predict {OLD}/hub {OLD}/shards/first -o p.csv")
    assert code == 0, err
    assert "no distance" in out.replace("\n", " ")
    assert "distance" not in rows(here / "p.csv")[0]


@pytest.mark.parametrize(
    ("words", "accepted", "said"),
    [
        ("connectivity.kind=partial", "--accept-kind", "partial matrices; the model was trained"),
        ("atlas=regions.csv", "--reorder", "stand in another order"),
        ("atlas=toy:11", "", "does not hold the regions"),
        ("source.dir=nowhere", "", "nowhere"),
        ("atlas=schaefer100-7", "--reorder --accept-kind", "does not hold the regions"),
    ],
)
def test_what_it_cannot_mean_is_refused_in_one_line_unless_told(
    words: str, accepted: str, said: str, folder: Path, files: Path, here: Path, lcm: Lcm
) -> None:
    order = [3, 1, 2, *range(4, 13)]
    lines = ["index,name", *(f"{i},region {i}" for i in order)]
    (here / "regions.csv").write_text("\n".join(lines) + "\n")
    before = left(here)
    for flag in ("", "--dry-run"):
        code, _, err = lcm(f"predict {folder} {files} {words} {flag} -o p.csv")
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err
    assert left(here) == before
    if "reorder" in accepted and "accept" in accepted:
        assert lcm(f"predict {folder} {files} {words} {accepted} -o p.csv")[0] == 2
    elif accepted:
        assert lcm(f"predict {folder} {files} {words} {accepted} -o p.csv")[0] == 0
        marked = {"partial" in row["flags"] for row in rows(here / "p.csv")}
        assert marked == {accepted == "--accept-kind"}


def test_regions_in_another_order_are_brought_back(
    folder: Path, series: Path, here: Path, lcm: Lcm
) -> None:
    lcm(f"predict {folder} {series} atlas=toy:12 -o p.csv")
    order = np.random.default_rng(0).permutation(12)
    lines = ["index,name", *(f"{i + 1},region {i + 1}" for i in order)]
    (here / "regions.csv").write_text("\n".join(lines) + "\n")
    for file in series.parent.glob("*.txt"):
        np.savetxt(file, np.loadtxt(file)[:, order])
    code, _, err = lcm(f"predict {folder} {series} atlas=regions.csv --reorder -o q.csv")
    assert code == 0, err
    assert (here / "p.csv").read_text() == (here / "q.csv").read_text()


def test_a_bad_file_stops_it_and_leaves_what_was_there(
    folder: Path, series: Path, here: Path, lcm: Lcm
) -> None:
    lcm(f"predict {folder} {series} atlas=toy:12 -o p.csv")
    before = (here / "p.csv").read_text(), (here / "p.json").read_text(), left(here)
    sorted(series.parent.glob("*.txt"))[3].write_text("no numbers\n")
    code, _, err = lcm(f"predict {folder} {series} atlas=toy:12 -o p.csv")
    assert code == 2 and ".txt" in err.splitlines()[-1]
    assert before == ((here / "p.csv").read_text(), (here / "p.json").read_text(), left(here))
    code, _, err = lcm(f"predict {folder} {series} atlas=toy:12 source.on_error=skip -o p.csv")
    assert code == 0, err
    assert len(rows(here / "p.csv")) == 6
    assert sum(json.loads((here / "p.json").read_text())["Scans"]["LeftOut"].values()) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{run} {set} --ids", "hashed ids alone"),
        ("{run} {set} atlas=toy:12", "shard set"),
        ("{run} {set} -o p.txt", "ends in .csv"),
        ("{run} {set} -o files.yaml/p.csv", "is a file"),
        ("{run} nowhere", "no such folder"),
        ("nobody/nothing-at-all {set}", "neither a folder nor a repository"),
        ("{set} {set}", "no checkpoint there"),
        ("files.yaml {set}", "no model"),
        ("{run} {run}", "no layout that is known"),
    ],
)
def test_other_mistakes_are_one_line(
    line: str,
    said: str,
    folder: Path,
    world: Path,
    files: Path,
    here: Path,
    lcm: Lcm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, _, err = lcm("predict " + line.format(run=folder, set=world / "shards" / "first"))
    assert (code, err.count("\n")) == (2, 1), err
    assert said in err


def test_scans_unlike_the_training_ones_are_marked(
    folder: Path, series: Path, here: Path, lcm: Lcm
) -> None:
    everybody = sorted(series.parent.glob("*.txt"))
    noise, short, dead = everybody[:3]
    rng = np.random.default_rng(1)
    np.savetxt(noise, rng.standard_normal((40, 12)))
    np.savetxt(short, np.loadtxt(short)[:33])
    values = np.loadtxt(dead)
    values[:, 4] = 1.0
    np.savetxt(dead, values)
    lcm(f"predict {folder} {series} atlas=toy:12 source.tr=3.0 --ids -o p.csv")
    flags = {row["file"]: row["flags"] for row in rows(here / "p.csv")}
    assert "far from the training people" in flags[noise.name]
    assert "volumes 33, trained on 40" in flags[short.name]
    assert "no data in region 5 (5)" in flags[dead.name]
    assert all("repetition time 3 s, trained on 2 s" in flag for flag in flags.values())


def test_series_of_a_folder_are_made_matrices_as_the_training_ones_were(
    recipe: Make, make_set: Callable, tmp_path: Path, series: Path
) -> None:
    make_set(tmp_path, "shrunk", ["connectivity.kind=ledoit-wolf", "simulation.subjects=20"])
    words = (*MEMORY, f"data={tmp_path}/shards/shrunk", "name=shrunk")
    model = checkpoints.load(run.pretrain(recipe(*words)))
    found = listed(series, ["atlas=toy:12"], model)
    assert found.kept.connectivity["kind"] == "ledoit-wolf"
    scans = read(found, model)
    assert scans.told.shape == (7, 2) and scans.edges.shape == (7, 66)


def test_columns_with_names_are_brought_into_the_models_order(
    folder: Path, series: Path, here: Path
) -> None:
    model = checkpoints.load(folder)
    names = tuple(f"area-{chr(97 + i)}" for i in range(12))
    model = replace(model, atlas=replace(numbered("own", 12), names=names))
    plain = read(listed(series, ["atlas=toy:12"], model), model).edges
    order = np.random.default_rng(2).permutation(12)
    for file in series.parent.glob("*.txt"):
        head = " ".join(names[i] for i in order)
        np.savetxt(file, np.loadtxt(file)[:, order], header=head, comments="")
    found = listed(series, [], model)
    assert found.atlas == model.atlas
    np.testing.assert_array_equal(read(found, model).edges, plain)


def test_a_recipe_is_asked_without_its_labels(files: Path, folder: Path) -> None:
    model = checkpoints.load(folder)
    found = listed(files, [], model)
    assert [group.name for group in found.recipe.groups] == ["eye_status"]
    assert config.load(ShardRecipe, files).groups[1].name == "diagnosis"
