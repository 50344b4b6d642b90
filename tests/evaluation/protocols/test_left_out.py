"""A whole site, or a whole set, is held out: nobody of it is trained on, in any set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate
from lcm_scale.evaluation.prepare import PreparedEvaluation, prepare_evaluation
from lcm_scale.training import fit as run

Make = Callable[..., Recipe]
ASKED = (
    "name=eval",
    "evaluate.bootstrap=50",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 1}]",
)
SITES = (*ASKED, "evaluate.protocol=leave-site-out")
SETS = (*ASKED, "evaluate.protocol=leave-set-out")


@pytest.fixture
def sites(recipe: Make, make_set, tmp_path: Path) -> Callable[..., PreparedEvaluation]:
    """Of `few` and `many`, 40 people each of 2 sites and of 5, SIM1 to SIM5."""
    sizes = {"few": ("2", 1), "many": ("5", 60001)}
    for name, (count, first) in sizes.items():
        size = ["simulation.subjects=40", f"simulation.first_subject={first}"]
        make_set(tmp_path, name, [*size, f"simulation.sites={count}"])

    def make(*changes: str) -> PreparedEvaluation:
        here = f"data.shards_dir={tmp_path}/shards"
        return prepare_evaluation(recipe(*SITES, here, "data=[few, many]", *changes))

    return make


def test_nobody_of_a_held_out_site_is_trained_on_in_any_set(
    sites: Callable[..., PreparedEvaluation],
) -> None:
    prepared = sites("evaluate.set=few", "evaluate.targets=[diagnosis, age]")
    sets = prepared.opened.sets
    assert np.array_equal(np.sort(prepared.plan.tested), sets.scans_of(["few"]))
    assert sum(len(fold.test) for fold in prepared.folds) == 40
    assert len(prepared.folds) == 2
    for fold, (one,) in zip(prepared.folds, prepared.runs, strict=True):
        (site,) = np.unique(sets.site[fold.test])
        seen = np.concatenate([one.train, one.validation])
        assert site not in sets.site[seen]
        assert np.array_equal(np.sort(seen), np.sort(fold.fitted))  # the baselines' as well
        assert len(np.unique(sets.set_number[one.train])) == 2
        assert len(one.validation) and set(sets.set_number[one.validation]) == {0}
        assert not set(sets.subject[one.train]) & set(sets.subject[one.validation])
    report = crossvalidate.evaluate(prepared)
    assert report.protocol.startswith("Leave-site-out") and "1: SIM1 (" in report.protocol
    result = report.targets[0]
    assert result.n_scans == 40 and len(np.unique(result.predictions[0].fold)) == 2


def test_small_sites_are_held_out_together_or_never_and_named(
    sites: Callable[..., PreparedEvaluation], recipe: Make, make_set, tmp_path: Path
) -> None:
    prepared = sites("evaluate.set=many", "evaluate.targets=[diagnosis]")
    sets = prepared.opened.sets
    own = sets.scans_of(["many"])
    people = {s: (sets.site[own] == s).sum() for s in np.unique(sets.site[own])}
    small = sorted(s for s, count in people.items() if count < 10)
    assert len(small) > 1
    together = [np.unique(sets.site[fold.test]).tolist() for fold in prepared.folds]
    assert sorted(together) == sorted([*([s] for s in people if s not in small), small])
    names = ", ".join(sets.sites[s] for s in small)
    assert any(note.endswith(f"fewer than 10 people: {names}.") for note in prepared.plan.notes)
    # Where they are too few even together, they are trained on and never tested.
    make_set(tmp_path, "three", ["simulation.subjects=40", "simulation.sites=3"])
    here = f"data.shards_dir={tmp_path}/shards"
    prepared = prepare_evaluation(recipe(*SITES, here, "data=three", "evaluate.targets=[age]"))
    sets = prepared.opened.sets
    (left,) = set(range(3)) - {*sets.site[prepared.plan.tested]}
    assert (sets.site == left).sum() < 10
    assert any(note.startswith("Never held out") for note in prepared.plan.notes)
    for fold in prepared.folds:
        assert set(np.flatnonzero(sets.site == left)) <= set(fold.fitted)


def test_the_site_itself_cannot_be_asked(recipe: Make, make_set, tmp_path: Path) -> None:
    groups = "groups=[{name: diagnosis, labels: [CN, Autism]}, {name: place, column: SITE_ID}]"
    make_set(tmp_path, "one", ["simulation.subjects=40", "simulation.sites=3", groups])
    asked = (*SITES, f"data.shards_dir={tmp_path}/shards", "data=one")
    prepared = prepare_evaluation(recipe(*asked))
    assert "place" not in [question.target.name for question in prepared.questions]
    assert any(note.startswith("place is not evaluated") for note in prepared.plan.notes)
    with pytest.raises(InputError, match="without the site that is tested, training does not know"):
        prepare_evaluation(recipe(*asked, "evaluate.target=place"))


def test_each_set_is_held_out_once_and_targets_of_one_set_alone_are_not_asked(
    recipe: Make,
) -> None:
    prepared = prepare_evaluation(recipe(*SETS, "data=[first, second]"))
    sets = prepared.opened.sets
    assert [np.unique(sets.set_number[fold.test]).tolist() for fold in prepared.folds] == [[0], [1]]
    for fold, (one,) in zip(prepared.folds, prepared.runs, strict=True):
        seen = np.concatenate([one.train, one.validation])
        assert not set(sets.subject[seen]) & set(sets.subject[fold.test])
        assert np.array_equal(np.sort(seen), np.sort(fold.fitted))
        assert len(one.validation)
    assert [question.target.name for question in prepared.questions] == ["sex", "age"]
    said = [note.partition(" ")[0] for note in prepared.plan.notes if "not evaluated" in note]
    assert sorted(said) == ["diagnosis", "eye_status", "outcome"]
    report = crossvalidate.evaluate(prepared)
    assert report.data["set"] == "first, second" and report.data["scans"] == 63
    assert report.headline == "sex" and "2: second (26 people)" in report.protocol


def test_a_headline_of_one_set_alone_is_refused(recipe: Make) -> None:
    with pytest.raises(InputError, match=r"1 sets of data\.sets have the headline outcome"):
        prepare_evaluation(recipe(*SETS, "data=[first, second]", "evaluate.target=outcome"))


def test_a_fixed_model_is_not_held_out_site_by_site(recipe: Make) -> None:
    start = run.pretrain(recipe("name=pre", "data.targets=[sex]", "trainer.max_steps=1"))
    asked = [*SITES, "data=second", "evaluate.targets=[sex]", f"evaluate.checkpoint={start}"]
    with pytest.raises(InputError, match=r"evaluate\.protocol=leave-site-out exclude each other"):
        prepare_evaluation(recipe(*asked))


def test_whoever_is_in_two_sets_is_not_trained_on_while_one_of_them_is_held_out(
    recipe: Make, make_set, tmp_path: Path
) -> None:
    """`p` has the people 1 to 30, `q` 16 to 45."""
    for name, first in (("p", 1), ("q", 16)):
        size = ["simulation.subjects=30", f"simulation.first_subject={first}"]
        make_set(tmp_path, name, size)
    prepared = prepare_evaluation(
        recipe(*SETS, f"data.shards_dir={tmp_path}/shards", "data=[p, q]")
    )
    sets = prepared.opened.sets
    for fold, (one,) in zip(prepared.folds, prepared.runs, strict=True):
        seen = np.concatenate([one.train, one.validation, fold.fitted])
        assert not set(sets.subject[seen]) & set(sets.subject[fold.test])
        assert len(np.unique(sets.subject[seen])) == 15
