"""The whole evaluation on small simulated sets: who is trained on, who is read once, and what is
refused."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from lcm_scale.config import Recipe
from lcm_scale.data.sets import open_sets
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate, plain
from lcm_scale.evaluation.baselines import TOLD
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.inference.predictor import Predictor
from lcm_scale.report.write import write_report
from lcm_scale.training import fit as run
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
QUICK = (
    "evaluate.folds=3",
    "evaluate.bootstrap=200",
    "evaluate.stratify=diagnosis",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 2}]",
)


def evaluate(recipe: Recipe) -> Path:
    """As the verb does.  Returns: the report's page."""
    prepared = prepare_evaluation(recipe)
    return write_report(crossvalidate.evaluate(prepared), prepared.folder)


def test_every_scan_is_predicted_once_by_a_model_that_never_saw_the_person(recipe: Make) -> None:
    report = evaluate(recipe("name=eval", *QUICK))
    rows = list(csv.DictReader((report.parent / "predictions.csv").open()))
    ours = [row for row in rows if row["model"] == "LCM" and row["target"] == "diagnosis"]
    sets = open_sets(recipe().data)
    assert sorted(int(row["scan"]) for row in ours) == list(range(sets.n_scans))
    for fold in (1, 2, 3):
        seen = checkpoints.load(report.parent / "folds" / f"fold-{fold}").subjects
        tested = {row["subject"] for row in ours if row["fold"] == str(fold)}
        assert tested
        assert not tested & seen
        assert tested | seen == set(sets.subjects)


def test_numbers_stand_with_interval_n_and_baselines(recipe: Make) -> None:
    report = evaluate(recipe("name=eval", *QUICK))
    data = json.loads((report.parent / "results.json").read_text())
    assert data["simulated"] is True
    target = next(t for t in data["targets"] if t["target"] == "diagnosis")
    assert set(target["results"]) == {"LCM", "majority", "linear", "tangent"}
    for metric in target["results"]["LCM"]:
        assert metric["n_subjects"] == 37
    assert "SIMULATED" in report.read_text()


def test_a_checkpoint_that_saw_an_evaluated_person_is_refused_before_anything_is_trained(
    recipe: Make, tmp_path: Path
) -> None:
    start = run.pretrain(recipe("name=pre", "trainer.max_steps=1"))
    with pytest.raises(InputError, match=r"saw 37 of the 37 people"):
        evaluate(recipe("name=eval", f"init_from={start}", *QUICK))
    with pytest.raises(InputError, match=r"saw 37 of the 37 people"):
        evaluate(recipe("name=eval", f"evaluate.checkpoint={start}", *QUICK))
    assert not (tmp_path / "runs" / "eval").exists()


def test_a_person_in_two_sets_never_straddles(recipe: Make, make_set, tmp_path: Path) -> None:
    """`first` again under another name: everybody is in both sets, so the other set's scans follow
    the fold."""
    make_set(tmp_path, "first", ["simulation.subjects=37", "simulation.seed=3"])
    make_set(tmp_path, "again", ["simulation.subjects=37", "simulation.seed=3"])
    report = evaluate(
        recipe("name=eval", f"data.shards_dir={tmp_path}/shards", "data=[again, first]", *QUICK)
    )
    for fold in (1, 2, 3):
        seen = checkpoints.load(report.parent / "folds" / f"fold-{fold}").subjects
        rows = csv.DictReader((report.parent / "predictions.csv").open())
        assert not seen & {row["subject"] for row in rows if row["fold"] == str(fold)}


def test_a_fixed_model_is_scored_as_it_is(recipe: Make) -> None:
    start = run.pretrain(recipe("name=pre", "data.targets=[sex, age]"))
    report = evaluate(
        recipe(
            "name=eval",
            "data=second",
            f"evaluate.checkpoint={start}",
            "evaluate.targets=[sex, age]",
            "evaluate.folds=3",
            "evaluate.bootstrap=200",
        )
    )
    assert not (report.parent / "folds").exists()


def test_a_fixed_model_answers_for_categories_whatever_their_order_in_the_set(
    recipe: Make, make_set, tmp_path: Path
) -> None:
    """Codes of the set were once taken for the model's: every answer was the other class's."""
    start = run.pretrain(recipe("name=pre", "data.targets=[diagnosis]"))
    found = []
    for name, labels in (("straight", "CN, Autism"), ("turned", "Autism, CN")):
        groups = f"groups=[{{name: diagnosis, labels: [{labels}]}}]"
        people = ["simulation.subjects=24", "simulation.first_subject=60001"]
        make_set(tmp_path, name, [*people, groups])
        asked = (f"data.shards_dir={tmp_path}/shards", f"data={name}", "evaluate.folds=2")
        known = ("evaluate.baselines=[majority]", "evaluate.targets=[diagnosis]")
        made = recipe(f"name={name}", *asked, *known, f"evaluate.checkpoint={start}")
        target = crossvalidate.evaluate(prepare_evaluation(made)).targets[0]
        ours = target.predictions[0]
        found.append(ours.scores[np.argsort(ours.scan)][:, target.categories.index("CN")])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_a_scalar_with_a_log_scale_is_reported_in_its_unit(
    recipe: Make, make_set, tmp_path: Path
) -> None:
    make_set(tmp_path, "logs", ["simulation.subjects=30", "age_log=true"])
    made = recipe(
        "name=eval",
        f"data.shards_dir={tmp_path}/shards",
        "data=logs",
        *QUICK,
        "evaluate.target=age",
    )
    result = crossvalidate.evaluate(prepare_evaluation(made))
    (age,) = (target for target in result.targets if target.target == "age")
    assert any("age is learnt and predicted on its log scale" in note for note in result.notes)
    for one in age.predictions:
        assert one.truth.min() > 7 and one.truth.max() < 46  # years, not their logarithms
        assert 2 < np.median(one.scores) < 200, one.model
    model = checkpoints.load(tmp_path / "runs" / "eval" / "folds" / "fold-1")
    assert model.vocabulary["age"].log
    centre, scale = model.scalars["age"]
    assert 2 < centre < 4 and 0.1 < scale < 1  # of the logarithm


def test_a_fixed_model_of_another_vocabulary_is_refused(recipe: Make) -> None:
    start = run.pretrain(recipe("name=pre", "data.targets=[sex, age]", "trainer.max_steps=1"))
    with pytest.raises(InputError, match="another vocabulary: it does not know outcome"):
        evaluate(
            recipe(
                "name=eval",
                "data=second",
                f"evaluate.checkpoint={start}",
                "evaluate.target=outcome",
            )
        )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("evaluate.target=diagnosys", "no target 'diagnosys', did you mean 'diagnosis'"),
        ("evaluate.set=frist", "not in data.sets"),
        ("evaluate.folds=50", "37 subjects"),
        ("evaluate.baselines=[linnear]", "did you mean 'linear'"),
        ("evaluate.confounded={statt: because}", "'statt' is not evaluated"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(
    change: str, expected: str, recipe: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=expected):
        evaluate(recipe("name=eval", *QUICK, change))
    assert not (tmp_path / "runs" / "eval").exists()


def test_fewer_than_two_people_of_a_class_in_a_fold_is_refused(
    recipe: Make, make_set, tmp_path: Path
) -> None:
    make_set(tmp_path, "few", ["simulation.subjects=6", "simulation.seed=8"])
    few = recipe(
        "name=eval",
        f"data.shards_dir={tmp_path}/shards",
        "data=few",
        "evaluate.folds=5",
        "data.validation=0.2",
    )
    labels = open_sets(few.data).labels[:, 0]
    assert min(np.bincount(labels.astype(int))[1:]) < 4
    with pytest.raises(InputError, match=r"fold \d: .*needs at least 2 training subjects"):
        evaluate(few)


def test_the_same_recipe_gives_the_same_report(recipe: Make) -> None:
    pages = [
        evaluate(recipe(f"name=eval{i}", "title=same", *QUICK)).parent / "results.csv"
        for i in (1, 2)
    ]
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_models_that_are_trained_already_are_asked_with_their_number_of_threads(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second thread changed the eighth digit of a score."""
    asked: list[tuple[int, set[int]]] = []
    real = Predictor.answers_of_parts

    def noted(self: Predictor, *arguments: Any) -> dict[str, list[np.ndarray]]:
        blas = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
        asked.append((torch.get_num_threads(), blas))
        return real(self, *arguments)

    monkeypatch.setattr(Predictor, "answers_of_parts", noted)
    before = torch.get_num_threads()
    for _ in range(2):
        evaluate(recipe("name=eval", *QUICK, f"trainer.threads={before + 1}"))
        assert torch.get_num_threads() == before
    assert len(asked) >= 4 and all(number == before + 1 for number, _ in asked)
    assert all(blas == {before + 1} for _, blas in asked)


def test_an_interrupted_evaluation_goes_on_with_the_folds_it_has(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = crossvalidate
    real, calls = module.trained, []

    def once(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("killed")
        return real(*arguments, **named)

    monkeypatch.setattr(module, "trained", once)
    with pytest.raises(KeyError):
        evaluate(recipe("name=eval", *QUICK))
    monkeypatch.undo()
    resumed = evaluate(recipe("name=eval", *QUICK)).parent / "results.csv"
    whole = evaluate(recipe("name=whole", *QUICK)).parent / "results.csv"
    assert resumed.read_bytes() == whole.read_bytes()


TUNED = ("name=tune", "title=tuned", "data.validation=0.2", "phases=[{name: one, epochs: 1}]")
ASKED = (*TUNED, *QUICK[:3], "evaluate.baselines=[majority]")


def test_a_finetuned_runs_folder_is_asked_once_and_the_same_again(
    recipe: Make, tmp_path: Path
) -> None:
    folder = run.pretrain(recipe(*TUNED))
    own = (folder / "recipe.yaml").read_bytes()
    results = evaluate(recipe(*ASKED)).parent / "results.csv"
    first = results.read_bytes()
    assert (folder / "recipe.yaml").read_bytes() == own
    folder.rename(tmp_path / "runs" / "kept")
    again = evaluate(recipe(*ASKED, "name=kept")).parent / "results.csv"
    assert again.read_bytes() == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["model.width=8"], r"holds a run of another recipe \(model\.width differ"),
        (["data=second"], r"holds a run of another recipe \(data\.sets differ"),
        (["evaluate.targets=[sex]"], r"holds another evaluation \(evaluate\.targets differ"),
    ],
)
def test_a_really_different_evaluation_leaves_the_folder_alone(
    changes: list[str], message: str, recipe: Make, tmp_path: Path
) -> None:
    run.pretrain(recipe(*TUNED))
    asked = prepare_evaluation(recipe(*ASKED))
    crossvalidate.write_evaluation(asked.recipe, asked.folder, asked.opened.sets.fingerprints)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=message):
        prepare_evaluation(recipe(*ASKED, *changes))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    prepare_evaluation(recipe(*ASKED))
    # What stands beside the folds may be asked anew: no model changes.
    prepare_evaluation(recipe(*ASKED, "evaluate.bootstrap=300", "evaluate.baselines=[linear]"))


def test_a_fixed_models_evaluation_knows_data_and_model_by_what_they_hold(
    recipe: Make, make_set, world: Path, tmp_path: Path
) -> None:
    start = run.pretrain(recipe("name=pre", "data.targets=[sex, age]", "trainer.max_steps=1"))
    asked = ["name=eval", "data=second", "evaluate.targets=[sex, age]", "evaluate.folds=3"]
    made = prepare_evaluation(recipe(*asked, f"evaluate.checkpoint={start}"))
    crossvalidate.write_evaluation(made.recipe, made.folder, made.opened.sets.fingerprints)
    moved = start.rename(tmp_path / "moved")
    prepare_evaluation(recipe(*asked, f"evaluate.checkpoint={moved}"))
    make_set(tmp_path, "second", ["simulation.subjects=26", "simulation.first_subject=70001"])
    with pytest.raises(InputError, match=r"another evaluation \(fingerprint of second differ"):
        prepare_evaluation(
            recipe(*asked, f"evaluate.checkpoint={moved}", f"data.shards_dir={tmp_path}/shards")
        )
    other = run.pretrain(recipe("name=other", "data.targets=[sex, age]", "trainer.max_steps=2"))
    with pytest.raises(InputError, match=r"another evaluation \(evaluate\.checkpoint differ"):
        prepare_evaluation(recipe(*asked, f"evaluate.checkpoint={other}"))


def test_people_memory_is_shown_by_part_and_no_part_is_a_baseline(recipe: Make) -> None:
    words = ("name=eval", *QUICK, "model.people_memory=linear", "evaluate.targets=[diagnosis, age]")
    report = evaluate(recipe(*words))
    data = json.loads((report.parent / "results.json").read_text())
    parts = ["people memory", "decoder"]
    for target in data["targets"]:
        assert target["parts"] == parts
        assert set(target["results"]) == {"LCM", *parts, "majority", "linear", "tangent"}
        assert set(target["differences"]) == set(target["results"]) - {"LCM"}
    page = report.read_text()
    assert re.search("Its people memory|Its decoder|Both parts count|cannot be told", page)
    assert "people memory beside the decoder: ours, not part of the published LCM" in page
    rows = list(csv.DictReader((report.parent / "results.csv").open()))
    assert {row["model"] for row in rows} >= set(parts)
    assert {row["minus"] for row in rows} >= set(parts)
    fixed = f"evaluate.checkpoint={report.parent / 'folds' / 'fold-1'}"
    again = (
        "name=fixed",
        "data=second",
        fixed,
        *QUICK[:2],
        "evaluate.target=age",
        "evaluate.targets=[age]",
    )
    data = json.loads((evaluate(recipe(*again)).parent / "results.json").read_text())
    assert data["targets"][0]["parts"] == parts, "a fixed model's memory answers too"


def test_no_baseline_is_told_what_is_asked(recipe: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Age is told to who is asked for the diagnosis, and to nobody who is asked for the age; the
    model and a linear baseline are told the same, and the report says so."""
    told: dict[str, list[str]] = {}
    real = plain.fit_predict

    def fit_predict(name: str, *arguments: Any) -> np.ndarray:
        if name == TOLD:
            told[arguments[4]] = [column.name for column in arguments[-1].columns]
        return real(name, *arguments)

    monkeypatch.setattr(plain, "fit_predict", fit_predict)
    words = ("model.people_memory=linear", "model.context=[age, diagnosis]")
    report = evaluate(recipe("name=eval", *QUICK, *words, "evaluate.targets=[diagnosis, age]"))
    assert told == {"class": ["age"], "scalar": ["diagnosis"]}
    data = json.loads((report.parent / "results.json").read_text())
    assert all(TOLD in target["differences"] for target in data["targets"])
    assert "told what is known beside the matrix: age" in report.read_text()


def test_people_memory_and_harmonised_folds_are_refused_before_anything_is_trained(
    recipe: Make,
) -> None:
    words = ("model.people_memory=linear", "evaluate.harmonise=site-centre")
    with pytest.raises(InputError, match=r"set model\.people_memory=none, or"):
        prepare_evaluation(recipe("name=eval", *QUICK, *words))
