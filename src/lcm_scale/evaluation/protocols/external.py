"""Train on some sets, test on another: what a model is worth on people whom another lab scanned.

Either a model is trained on the other sets of `data.sets`, or one is taken as it is
(`evaluate.checkpoint`). The evaluated set's people are tested once, by one model, and nothing is
fitted on them: neither the model nor a baseline. Only answers that both sides know are asked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets, split_subjects
from lcm_scale.errors import InputError
from lcm_scale.evaluation.folds import MIN_TRAINING_SUBJECTS, Fold
from lcm_scale.evaluation.protocols.answers import Refusal, asked, learnable, require_two_classes
from lcm_scale.evaluation.protocols.plan import Plan, several
from lcm_scale.evaluation.questions import Question, evaluated_set, questions_of
from lcm_scale.vocabulary import NOT_APPLICABLE
from lcm_scale.weights.checkpoints import Checkpoint

OTHER_SALT = (
    "The model's people were hashed with another salt than these sets': whether people evaluated "
    "here were among them cannot be checked, and no baseline can be trained on the same people."
)


def plan(recipe: Recipe, sets: ShardSets) -> Plan:
    """Models and baselines are trained on everybody of the other sets.

    Raises: InputError where there is nobody to train on, or an asked target has no answers that
        both sides know.
    """
    name = evaluated_set(recipe, sets)
    test = sets.scans_of([name])
    pool = _elsewhere(sets, test)
    if not len(pool):
        raise InputError(
            f"evaluate.protocol=external: data.sets ({', '.join(sets.names)}) hold nobody beside "
            f"the people of {name} to train on; name the sets to train on as well"
        )
    seed = recipe.evaluate.seed
    train, validation = split_subjects(sets, pool, recipe.data.validation, seed)
    others = ", ".join(n for n in sets.names if n != name)
    refusal = Refusal(
        f"evaluate.protocol=external: the training sets ({others}) do not know",
        "leave it out of evaluate.targets, or train on a set that has it",
    )
    found = questions_of(recipe, sets)
    questions, notes = asked(
        recipe, sets, test, found, lambda question: learnable(question, sets, train), refusal
    )
    require_two_classes(questions[0], sets, test)
    people = len(np.unique(sets.subject[pool]))
    sentence = (
        f"External test: trained on {people} people of {others}, of whom "
        f"{recipe.data.validation:.0%} choose the epoch, and read once on all of {name}, on whose "
        f"people nothing is fitted.{several(recipe, each='')} Baselines are tuned by inner "
        "cross-validation on the same training people."
    )
    return _plan(pool, train, validation, test, questions, sentence, notes)


def plan_of_fixed(recipe: Recipe, sets: ShardSets, model: Checkpoint) -> Plan:
    """The model as it is; baselines are trained on the people it was trained on, where their sets
    are among the recipe's.

    Raises: InputError as `plan`.
    """
    name = evaluated_set(recipe, sets)
    test = sets.scans_of([name])
    known = np.array([hashed in model.subjects for hashed in sets.subjects])
    pool = _elsewhere(sets, test)
    pool = pool[known[sets.subject[pool]]]
    refusal = Refusal(
        f"{model.path}: a checkpoint of another vocabulary: it does not know",
        f"it was trained on {', '.join(model.active)}",
    )
    found = questions_of(recipe, sets)
    questions, notes = asked(
        recipe, sets, test, found, lambda question: _answers(question, model), refusal
    )
    require_two_classes(questions[0], sets, test)
    if model.salt_id and model.salt_id != sets.manifests[0].salt_id:
        notes.append(OTHER_SALT)
    there, seen = len(np.unique(sets.subject[pool])), len(model.subjects)
    without = [q.target.name for q in questions if not _trains_baselines(q, sets, pool)]
    notes += _notes_of_baselines(without, there, seen)
    trained = (
        f"Baselines are trained on {there} of the {seen} people that it was trained on."
        if there
        else "No baseline is trained, since the model's training sets are not at hand."
    )
    sentence = (
        f"External test: the fixed model {model.run}, read once on all people of {name}, none of "
        f"whom it saw. {trained}"
    )
    made = _plan(pool, pool, pool[:0], test, questions, sentence, notes)
    return replace(made, without_baselines=frozenset(without))


def _elsewhere(sets: ShardSets, test: np.ndarray) -> np.ndarray:
    """Scans of people of whom no scan is tested, nor of who is kept together with them."""
    return np.flatnonzero(~np.isin(sets.together, sets.together[test]))


def _plan(
    pool: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    test: np.ndarray,
    questions: list[Question],
    sentence: str,
    notes: list[str],
) -> Plan:
    """Args: pool, train, validation, test: numbers of scans, ascending."""
    scans = np.union1d(pool, test)
    fold = Fold(*(np.searchsorted(scans, part) for part in (train, validation, test)))
    return Plan(scans, tuple(questions), (fold,), sentence, tuple(notes))


def _answers(question: Question, model: Checkpoint) -> list[str]:
    name = question.target.name
    if name not in model.active:
        return []
    return [c for c in model.vocabulary[name].categories if c != NOT_APPLICABLE]


# -- baselines of a fixed model --------------------------------------------------------------------


def _trains_baselines(question: Question, sets: ShardSets, pool: np.ndarray) -> bool:
    """Whether enough people are there to tune a baseline on."""
    truth, subject = question.truth(sets.labels[pool]), sets.subject[pool]
    if question.kind == "scalar":
        return len(np.unique(subject[np.isfinite(truth)])) >= MIN_TRAINING_SUBJECTS
    counts = [len(np.unique(subject[truth == c])) for c in range(len(question.categories))]
    return sum(count >= MIN_TRAINING_SUBJECTS for count in counts) >= 2


def _notes_of_baselines(without: list[str], there: int, seen: int) -> list[str]:
    notes = []
    if without:
        notes.append(
            f"No baseline for {', '.join(without)}: too few of the people that the model was "
            "trained on are in data.sets with that label, and a baseline that is trained on the "
            "evaluated people would answer another question. Add the model's training sets to "
            "data.sets."
        )
    if 0 < there < seen:
        notes.append(
            f"Of the {seen} people that the model was trained on {there} are in data.sets: its "
            "baselines learn from fewer people than it did."
        )
    return notes
