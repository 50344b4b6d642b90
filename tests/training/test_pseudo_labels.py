"""Pseudo-labels: from which confidence on, fitted on validation people; and for scans of other
sets."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.config import PseudoConfig, Recipe
from lcm_scale.training import fit as run
from lcm_scale.training.pseudo_labels import _Checked, _threshold
from lcm_scale.training.pseudo_threshold import class_threshold, scalar_passes
from lcm_scale.training.run_log import read_log
from lcm_scale.vocabulary import group
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
# 33 training scans in batches of 8 are 5 steps an epoch; 30 % of the labels are missing.
PHASES = "phases=[{name: labelled, epochs: 1}, {name: filled, epochs: 3, pseudo_labels: true}]"


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


def test_nine_of_ten_is_luck_too_often_where_five_levels_are_asked() -> None:
    recorded = np.repeat([0, 1], 5).astype(np.float32)
    guess, person, sure = recorded.copy(), np.arange(10), np.full(10, 0.99)
    assert class_threshold(guess, sure, recorded, person, 0.0) == 0.0
    guess[0] = 1
    assert class_threshold(guess, sure, recorded, person, 0.0) is None  # p = .0107, above .05 / 5


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


def test_whom_n_a_says_nothing_of_is_not_asked_and_the_others_decide() -> None:
    """The model gives N/A the largest logit throughout; that is no answer."""
    target = group("diagnosis", ["CN", "Autism"])
    guess, certainty, recorded, _ = people(60)
    guess = np.where(certainty >= 0.8, guess, 1 - recorded)
    scores = np.full((60, 3), 9.0, dtype=np.float32)
    scores[np.arange(60), guess.astype(int) + 1] = np.log(certainty)
    scores[np.arange(60), 2 - guess.astype(int)] = np.log(1 - certainty)
    labels = np.concatenate([recorded + 1, np.zeros(200), np.full(20, np.nan)])
    many = np.concatenate([scores, scores[:1].repeat(220, 0)])
    checked = _Checked.of(target, labels, many)
    assert int(checked.known.sum()) == 60
    assert checked.agreement == pytest.approx((certainty >= 0.8).mean())
    config = PseudoConfig(threshold="fitted")
    assert _threshold(target, checked, np.arange(280), config) == 0.8
    nobody = _Checked.of(target, labels[60:], many[60:])
    assert _threshold(target, nobody, np.arange(220), config) == float("inf")
    assert _threshold(target, nobody, np.arange(220), PseudoConfig()) == 0.0


def test_where_nothing_is_good_enough_nothing_is_filled_in_and_that_is_said(
    recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run.pretrain(recipe(PHASES, "pseudo={threshold: fitted, targets: [sex]}"))
    (row,) = audit(folder)
    assert (row["given"], row["threshold"]) == ("0", "nan")
    assert "phase filled: no pseudo-labels for sex: at no confidence" in capsys.readouterr().out
    plain = run.pretrain(recipe("name=plain", PHASES.replace("true", "false")))
    assert losses(folder) == losses(plain)


# -- scans of other sets ---------------------------------------------------------------------------


@pytest.mark.parametrize("not_applicable", [True, False])
def test_scans_of_other_sets_get_labels_of_groups_unless_they_carry_n_a(
    recipe: Make, not_applicable: bool
) -> None:
    """`second` has no eye_status at all. N/A is a label, so that it is not missing there."""
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
