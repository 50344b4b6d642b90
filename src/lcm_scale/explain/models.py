"""The models of a run, each with the people it was fitted on and those it never saw.

An evaluated run has one a fold and seed; a trained run is one. Nothing is trained here: the recipe
that lies in the folder is made ready again, as `evaluate` or `pretrain` would go on with it, so
that data which are not the run's are refused as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lcm_scale import checked, config
from lcm_scale.config import Recipe
from lcm_scale.config.fields import dotted
from lcm_scale.errors import InputError, nearest
from lcm_scale.evaluation.harmonise import harmonised
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.evaluation.questions import Question, questions_of
from lcm_scale.training.folder import EVALUATION, RECIPE
from lcm_scale.training.prepare import Opened, PreparedRun, prepare
from lcm_scale.training.remember import remembered
from lcm_scale.weights import checkpoints
from lcm_scale.weights.checkpoints import Checkpoint
from lcm_scale.weights.hub import CONFIG


@dataclass(frozen=True)
class Explained:
    """One model of a run.

    Attributes:
        prepared: the run that made it, its data as the model sees them.
        model: its checkpoint.
        asked: numbers of the scans that the decoder is asked about: held out, or of a run without
            held-out people those that it was trained on.
        fold, seed: from 1.
    """

    prepared: PreparedRun
    model: Checkpoint
    asked: np.ndarray
    fold: int
    seed: int

    @property
    def scans(self) -> np.ndarray:
        """Numbers of the scans that its people memory was fitted on, ascending."""
        return remembered(self.prepared)


@dataclass(frozen=True)
class Run:
    """A run, opened to be explained.

    Attributes:
        questions: what is explained, the headline first.
        models: in the order of folds, then of seeds.
        held_out: whether `Explained.asked` are people whom the model never saw.
    """

    folder: Path
    opened: Opened
    questions: tuple[Question, ...]
    models: tuple[Explained, ...]
    held_out: bool

    @property
    def recipe(self) -> Recipe:
        return self.opened.recipe


def open_run(folder: Path, overrides: Sequence[str] = (), targets: Sequence[str] = ()) -> Run:
    """Open a run and its models.

    Args:
        folder: of an evaluated or a trained run.
        overrides: `key=value`, for what may differ: where the data lie.
        targets: those that are explained; none: all that the run was asked.
    Raises: InputError where it holds no such run, its data are others or gone, a model is missing,
        or it does not know a target.
    """
    above = folder.absolute().parent.parent
    if (above / EVALUATION).is_file():
        raise InputError(f"{folder}: a part of an evaluated run; explain that: {above}")
    recipe = _recipe(folder, overrides)
    if not (folder / EVALUATION).is_file():
        return _chosen(_trained(folder, recipe), targets)
    prepared = prepare_evaluation(recipe)
    if prepared.fixed is not None:
        raise InputError(
            f"{folder}: evaluates a model as it is ({prepared.fixed.path}) and trained none; "
            "explain the run that made that model"
        )
    models = []
    asked = [question.target.name for question in prepared.questions]
    for number, runs in enumerate(prepared.runs):
        test = prepared.scans[prepared.folds[number].test]
        opened = harmonised(prepared.opened, prepared.training[number], asked)
        for seed, run in enumerate(runs, 1):
            model = checkpoints.load(_checkpoint(folder, run), harmonised=True)
            ready = replace(run, opened=opened)
            models.append(Explained(ready, model, test, number + 1, seed))
    whole = Run(folder, prepared.opened, prepared.questions, tuple(models), True)
    return _chosen(whole, targets)


def _recipe(folder: Path, overrides: Sequence[str]) -> Recipe:
    """As it lies in the folder, which may have been moved."""
    place = [f"runs_dir={folder.absolute().parent}", f"name={folder.absolute().name}"]
    if (folder / EVALUATION).is_file():
        said = checked.read_object(folder / EVALUATION)
        told = dotted(checked.members(said, EVALUATION, ("recipe",))["recipe"])
        return config.from_stored(Recipe, told, [*overrides, *place])
    if (folder / RECIPE).is_file():
        return config.load(Recipe, folder / RECIPE, [*overrides, *place])
    if (folder / CONFIG).is_file():
        raise InputError(
            f"{folder}: an exported model, without the scans that it was fitted on; explain the "
            "run that it was exported from"
        )
    raise InputError(
        f"{folder}: no run there (no {EVALUATION}, no {RECIPE}); name the folder of an evaluated "
        "or trained run, such as runs/abide_small"
    )


def _trained(folder: Path, recipe: Recipe) -> Run:
    prepared = prepare(recipe)
    model = checkpoints.load(_checkpoint(folder, prepared))
    questions = tuple(
        question
        for question in questions_of(recipe, prepared.opened.sets, prepared.opened.sets.names)
        if question.target.name in model.active
    )
    one = Explained(prepared, model, remembered(prepared), 1, 1)
    return Run(folder, prepared.opened, questions, (one,), False)


def _checkpoint(folder: Path, run: PreparedRun) -> Path:
    """Raises: InputError where the run has none that it finished with."""
    try:
        found = checkpoints.find(run.folder)
    except InputError as error:
        raise InputError(
            f"{folder}: {run.label} has no model yet; finish the run first ({error})"
        ) from error
    if run.recipe.model.people_memory != "none" and found.name != checkpoints.FINAL:
        raise InputError(f"{folder}: {run.label} was not finished; the same command goes on")
    return found


def _chosen(run: Run, targets: Sequence[str]) -> Run:
    known = [question.target.name for question in run.questions]
    for name in targets:
        if name not in known:
            raise InputError(
                f"--targets: the run was not asked '{name}'{nearest(name, known)} "
                f"({', '.join(known)})"
            )
    chosen = [q for q in run.questions if not targets or q.target.name in targets]
    return replace(run, questions=tuple(chosen))
