"""Pseudo-labels beyond the first guess: from which confidence on, as probabilities, balanced, by a
teacher asked again, for scans of other sets; and a run that is stopped anywhere goes on equal."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.training import fit as run
from lcm_scale.training.pseudo_labels import _balance
from lcm_scale.training.pseudo_threshold import class_threshold, scalar_passes
from lcm_scale.training.run_log import read_log
from lcm_scale.training.teacher import Teacher
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
# 33 training scans in batches of 8 are 5 steps an epoch; 30 % of the labels are missing.
PHASES = "phases=[{name: labelled, epochs: 1}, {name: filled, epochs: 3, pseudo_labels: true}]"
TEACHER = ("pseudo.refresh_epochs=1", "pseudo.teacher_decay=0.5", "pseudo.labels=soft")


def newest(folder: Path) -> dict:
    file = checkpoints.newest(folder / "checkpoints")
    assert file is not None
    return checkpoints.read_file(file)


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in read_log(folder / "log.jsonl") if event["event"] == "step"]


def audit(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "pseudo_labels.csv").open()))


# -- from which confidence on ----------------------------------------------------------------------


def people(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Guesses, certainties and labels of n people of two classes: right above .8, a coin below."""
    random = np.random.default_rng(seed)
    recorded = random.integers(0, 2, n).astype(np.float32)
    certainty = random.uniform(0.5, 1, n)
    coin = random.integers(0, 2, n)
    guess = np.where(certainty >= 0.8, recorded, coin).astype(np.float32)
    return guess, certainty, recorded, np.arange(n)


def test_the_threshold_is_the_smallest_level_that_beats_the_most_frequent_class() -> None:
    guess, certainty, recorded, person = people(60)
    low = np.where(certainty >= 0.8, guess, 1 - recorded)  # always wrong below: only .8 will do
    assert class_threshold(low, certainty, recorded, person, 0.0) == 0.8
    assert class_threshold(low, certainty, recorded, person, 0.85) == 0.85
    assert class_threshold(recorded, certainty, recorded, person, 0.0) == 0.0


def test_a_model_that_says_the_most_frequent_class_passes_at_no_level() -> None:
    _, certainty, _, person = people(100)
    recorded = (person % 10 == 0).astype(np.float32)
    assert class_threshold(np.zeros(100), certainty, recorded, person, 0.0) is None
    assert class_threshold(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0), 0.0) is None


def test_a_model_that_knows_nothing_rarely_passes() -> None:
    passed = 0
    for seed in range(200):
        _, certainty, recorded, person = people(50, seed)
        coin = np.random.default_rng([seed, 1]).integers(0, 2, 50)
        passed += class_threshold(coin, certainty, recorded, person, 0.0) is not None
    assert passed <= 10


def test_many_scans_of_few_people_are_few_people() -> None:
    recorded = np.array([0, 1, 0, 1], dtype=np.float32)
    person, sure = np.arange(4), np.full(4, 0.99)
    assert class_threshold(recorded, sure, recorded, person, 0.0) is None
    many = [np.repeat(each, 50) for each in (recorded, sure, recorded, person)]
    assert class_threshold(*many, 0.0) is None


def test_a_number_is_filled_in_where_it_beats_the_median() -> None:
    random = np.random.default_rng(1)
    age = random.uniform(10, 40, 40)
    assert scalar_passes(age + random.normal(0, 3, 40), age, np.arange(40))
    assert not scalar_passes(np.full(40, np.median(age)), age, np.arange(40))
    assert not scalar_passes(random.permutation(age), age, np.arange(40))
    assert not scalar_passes(age[:0], age[:0], np.arange(0))


def test_where_nothing_is_good_enough_nothing_is_filled_in_and_that_is_said(
    recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run.pretrain(recipe(PHASES, "pseudo.threshold=fitted", "pseudo.targets=[sex]"))
    (row,) = audit(folder)
    assert (row["given"], row["threshold"]) == ("0", "nan")
    assert "epoch 2: no pseudo-labels for sex: at no confidence" in capsys.readouterr().out
    plain = run.pretrain(recipe("name=plain", PHASES.replace("true", "false")))
    assert losses(folder) == losses(plain)


# -- soft, balanced --------------------------------------------------------------------------------


def test_soft_labels_are_probabilities_where_a_label_is_missing_and_nowhere_else(
    recipe: Make,
) -> None:
    folder = run.pretrain(
        recipe(PHASES, "pseudo.labels=soft", "pseudo.targets=[sex]", "trainer.max_steps=6")
    )
    state = newest(folder)
    pseudo, vocabulary = state["ConnectomeData"]["pseudo"], checkpoints.load(folder).vocabulary
    column, places = vocabulary.names.index("sex"), vocabulary.slices()["sex"]
    filled = pseudo["confidence"][:, column] > 0
    assert 0 < int(filled.sum()) < len(filled)
    assert pseudo["confidence"][filled, column].unique().tolist() == [0.5], "pseudo.weight alone"
    total = pseudo["soft"].sum(1)
    assert torch.allclose(total[filled], torch.ones(int(filled.sum())))
    assert not total[~filled].any()
    assert torch.equal(pseudo["soft"][:, places].sum(1), total), "over the target's own tokens"


def test_soft_and_balanced_labels_change_the_training_and_survive_a_resume(recipe: Make) -> None:
    own = ("pseudo.labels=soft", "pseudo.balance=true")
    whole = losses(run.pretrain(recipe("name=whole", PHASES, *own)))
    for each in ((), own[:1], own[1:]):
        assert (
            losses(run.pretrain(recipe(f"name=less-{len(''.join(each))}", PHASES, *each))) != whole
        )
    run.pretrain(recipe("name=parts", PHASES, *own, "trainer.max_steps=7"))
    assert losses(run.pretrain(recipe("name=parts", PHASES, *own))) == whole


def test_a_class_that_is_predicted_too_often_counts_less_and_none_counts_more() -> None:
    recorded = np.array([0, 0, 1, 1], dtype=np.float32)
    guess = np.array([0, 0, 0, 1, 1], dtype=np.float32)
    confidence = np.array([0.5, 0.5, 0.5, 0.5, 0.0], dtype=np.float32)
    assert _balance(recorded, guess, confidence) == pytest.approx([2 / 3] * 3 + [1.0] * 2)
    assert _balance(recorded[:0], guess, confidence) == pytest.approx([1.0] * 5)


# -- the teacher -----------------------------------------------------------------------------------


def test_the_teacher_is_the_average_and_gives_the_weights_back() -> None:
    network = torch.nn.BatchNorm1d(2)
    teacher = Teacher(0.75)
    teacher.begin(network)
    with torch.no_grad():
        network.weight.fill_(5.0)
        network.num_batches_tracked.fill_(3)
    teacher.follow(network)
    assert teacher.weights["weight"].tolist() == [2.0, 2.0]  # .75 x 1 + .25 x 5
    assert int(teacher.weights["num_batches_tracked"]) == 3
    with teacher.speaks_for(network):
        assert network.weight.tolist() == [2.0, 2.0]
    assert network.weight.tolist() == [5.0, 5.0]
    assert teacher.weights["weight"].tolist() == [2.0, 2.0]


def test_a_run_with_a_teacher_stopped_after_every_step_equals_the_undisturbed_one(
    recipe: Make,
) -> None:
    """Labels, teacher, weights and audit; before, at and between the refreshes."""
    whole = run.pretrain(recipe("name=whole", PHASES, *TEACHER))
    steps = len(losses(whole))
    assert steps == 20
    for stop in range(1, steps + 1):
        parts = run.pretrain(recipe("name=parts", PHASES, *TEACHER, f"trainer.max_steps={stop}"))
    assert losses(parts) == losses(whole)
    wanted, found = newest(whole), newest(parts)
    teachers = [each["callbacks"]["PseudoLabels"]["teacher"] for each in (wanted, found)]
    filled = [each["ConnectomeData"]["pseudo"] for each in (wanted, found)]
    weights = [each["state_dict"] for each in (wanted, found)]
    for mine, theirs in (teachers, filled, weights):
        assert mine and mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name].nan_to_num(), theirs[name].nan_to_num()) for name in mine)
    assert audit(parts) == audit(whole)
    assert {row["epoch"] for row in audit(whole)} == {"1", "2", "3"}


def test_labels_of_the_teacher_and_of_the_moment_differ_once_they_are_made_anew(
    recipe: Make,
) -> None:
    once = losses(run.pretrain(recipe("name=once", PHASES)))
    anew = losses(run.pretrain(recipe("name=anew", PHASES, TEACHER[0])))
    taught = losses(run.pretrain(recipe("name=taught", PHASES, *TEACHER[:2])))
    assert once[:10] == anew[:10] == taught[:10], "the first labels are the same"
    assert len({once[12], anew[12], taught[12]}) == 3


# -- scans of other sets ---------------------------------------------------------------------------


@pytest.mark.parametrize("not_applicable", [True, False])
def test_scans_of_other_sets_get_labels_of_groups_unless_they_carry_n_a(
    recipe: Make, not_applicable: bool
) -> None:
    """`second` has no eye_status at all. N/A is a label, so that it is not missing there, and is no
    answer that the audit could ask for."""
    phases = PHASES.replace("epochs: 1", "epochs: 1, sets: [first]")
    folder = run.pretrain(
        recipe(
            *("data=[first, second]", phases, "pseudo.targets=[eye_status]"),
            *(f"data.not_applicable={str(not_applicable).lower()}", "trainer.max_steps=6"),
        )
    )
    (row,) = audit(folder)
    data = newest(folder)["ConnectomeData"]["pseudo"]
    second = data["scans"] >= 37
    filled = (data["confidence"] > 0).any(1)
    assert bool(filled[~second].any())
    assert bool(filled[second].all()) != not_applicable
    assert bool(filled[second].any()) != not_applicable
    assert int(row["given"]) == int(filled.sum())
    assert int(row["known"]) <= 6, "of the six validation people those of `first`"
