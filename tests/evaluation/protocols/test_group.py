"""Who shares a family stands on one side of every split, by whatever protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.config import Recipe
from lcm_scale.data.kin import grouped, sentence
from lcm_scale.data.sets import ShardSets, open_sets
from lcm_scale.errors import InputError
from lcm_scale.evaluation import crossvalidate, held_out, plain
from lcm_scale.evaluation.intervals import resampled
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.training import fit as run

Make = Callable[..., Recipe]
FAMILY = "context=[{name: family, column: site, kind: category}, {name: motion, column: mean_fd}]"
ASKED = (
    "name=eval",
    "evaluate.group=family",
    "evaluate.folds=3",
    "evaluate.bootstrap=50",
    "evaluate.targets=[diagnosis]",
    "data.validation=0.2",
    "phases=[{name: one, epochs: 1}]",
)


@pytest.fixture
def families(make_set, world: Path) -> str:
    """The sets `one` and `two` of one cohort and `far` of another, 30 people of 15 families each;
    made once."""
    folder = world / "families"
    for number, name in enumerate(("one", "two", "far")):
        if (folder / "shards" / name).is_dir():
            continue
        size = ["simulation.subjects=30", f"simulation.first_subject={1 + 1000 * number}"]
        cohort = ["cohort=other"] if name == "far" else []
        make_set(folder, name, [*size, "simulation.sites=15", FAMILY, *cohort])
    return f"data.shards_dir={folder}/shards"


def family(sets: ShardSets) -> np.ndarray:
    """(N,) codes."""
    return sets.context[:, [c.name for c in sets.context_columns].index("family")]


def test_a_value_is_one_group_within_a_cohort_and_two_in_two(recipe: Make, families: str) -> None:
    plain = open_sets(recipe(families, "data=[one, two, far]").data)
    sets = grouped(plain, "family", "evaluate.group")
    code, far = family(sets), sets.set_number == 2
    for value in np.unique(code):
        near = sets.together[(code == value) & ~far]
        assert (near == sets.subject[(code == value) & ~far].min()).all()
        assert len(np.unique(sets.together[(code == value) & far])) <= 1
        assert not set(near) & set(sets.together[(code == value) & far])
    assert np.array_equal(plain.together, plain.subject)
    assert "groups of" in sentence(sets, "family")


def test_who_has_no_value_stands_alone_and_who_has_two_joins_them(
    recipe: Make, families: str
) -> None:
    plain = open_sets(recipe(families, "data=one").data)
    context = plain.context.copy()
    column = [c.name for c in plain.context_columns].index("family")
    context[:, column] = np.nan
    context[:4, column] = [0, 1, 1, 2]
    subject = plain.subject.copy()
    subject[3] = subject[0]  # one person, of the families 0 and 2
    object.__setattr__(plain, "context", context)
    object.__setattr__(plain, "subject", subject)
    together = grouped(plain, "family", "evaluate.group").together
    assert together[0] == together[3] != together[1] == together[2]
    assert np.array_equal(together[4:], subject[4:])


@pytest.mark.parametrize("protocol", ["nested", "repeated", "external", "leave-set-out", "paper"])
def test_no_family_straddles_a_split(protocol: str, recipe: Make, families: str) -> None:
    prepared = prepare_evaluation(
        recipe(*ASKED, families, "data=[one, far, two]", f"evaluate.protocol={protocol}")
    )
    sets = prepared.opened.sets
    for fold, (one,) in zip(prepared.folds, prepared.runs, strict=True):
        test = set(sets.together[prepared.scans[fold.test]])
        trained = [set(sets.together[part]) for part in (one.train, one.validation)]
        assert len(fold.test) and not test & trained[0]
        if protocol != "paper":
            assert not test & trained[1] and not trained[0] & trained[1]


def test_inner_splits_and_the_bootstrap_keep_them_together(
    recipe: Make, families: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare_evaluation(
        recipe(*ASKED, families, "data=one", "evaluate.baselines=[linear]")
    )
    sets, real, seen, drawn = prepared.opened.sets, plain.fit_predict, [], []

    def watched(name, edges, truth, subject, *rest):
        seen.append(subject)
        return real(name, edges, truth, subject, *rest)

    def draw(p, n, seed, together):
        drawn.append((p, together))
        return resampled(p, n, seed, together)

    monkeypatch.setattr(plain, "fit_predict", watched)
    monkeypatch.setattr(held_out, "resampled", draw)
    report = crossvalidate.evaluate(prepared)
    groups = set(sets.together)
    assert all(set(subject) <= groups for subject in seen) and len(groups) < 16
    assert all(np.array_equal(of, sets.together[p.scan]) for p, of in drawn)
    assert any(note.startswith("People who share family") for note in report.notes)


def test_an_interval_over_families_is_wider_where_they_are_alike() -> None:
    scores = np.repeat(np.random.default_rng(0).standard_normal(20), 10)
    people = np.arange(200)
    p = Predictions(
        model="m",
        target="age",
        kind="scalar",
        categories=("age",),
        truth=np.zeros(200),
        scores=scores,
        subject=people,
        fold=np.ones(200, np.int64),
        scan=people,
    )
    alone, kin = (resampled(p, 200, 0, of).metrics()[0] for of in (None, people // 10))
    assert kin.high - kin.low > 2 * (alone.high - alone.low)
    assert kin.n_subjects == 200


def test_a_checkpoint_that_saw_a_relative_is_refused(recipe: Make, families: str) -> None:
    """Everybody of `one` has a relative in `two`."""
    start = run.pretrain(recipe("name=pre", families, "data=one", "trainer.max_steps=1"))
    asked = [*ASKED, families, "data=[one, two]", f"init_from={start}"]
    prepare_evaluation(recipe(*asked, "evaluate.group=''"))
    with pytest.raises(InputError, match=r"kept together with them \(evaluate\.group\)"):
        prepare_evaluation(recipe(*asked))


@pytest.mark.parametrize(
    ("column", "why"),
    [("famly", "did you mean 'family'"), ("motion", "a column of numbers, which are rounded")],
)
def test_a_column_that_is_not_there_is_told(
    column: str, why: str, recipe: Make, families: str
) -> None:
    with pytest.raises(InputError, match=f"evaluate.group={column}.*{why}"):
        prepare_evaluation(recipe(*ASKED, families, "data=one", f"evaluate.group={column}"))
