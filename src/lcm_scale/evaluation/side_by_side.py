"""An evaluation's models and baselines made in several processes, each as one process makes it.

A model is trained by the one training path, in its own folder: what is finished is not made again,
and what was killed goes on. `crossvalidate` then finds all of it there. Each process has one thread
unless the recipe says how many; results are those of one process with as many.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import FrameType

import numpy as np

from lcm_scale import progress
from lcm_scale.config import Recipe, dump, from_stored
from lcm_scale.config.run import SCRATCH
from lcm_scale.config.yaml_text import parse
from lcm_scale.data.pool import in_order
from lcm_scale.errors import InputError, Stopped
from lcm_scale.evaluation.crossvalidate import evaluate
from lcm_scale.evaluation.harmonise import harmonised
from lcm_scale.evaluation.held_out import Answers
from lcm_scale.evaluation.plain import baselines_of_fold
from lcm_scale.evaluation.prepare import (
    LOCK,
    PreparedEvaluation,
    asked_of,
    open_scratch,
    prepare_draw,
    prepare_evaluation,
    prepare_final,
    prepare_fold,
)
from lcm_scale.evaluation.protocols.label_counts import draws_of
from lcm_scale.evaluation.results import Report
from lcm_scale.lock import InUse, holding
from lcm_scale.terminal import quiet
from lcm_scale.training.prepare import Opened, PreparedRun
from lcm_scale.training.signals import SIGNALS
from lcm_scale.training.trained import trained
from lcm_scale.weights.checkpoints import OF_EVERYBODY

FOLDS, DRAWS, BASELINES = "fold", "labels", "baselines"
# What is made, and which: of a fold (from 1) and repeat (from 0); of draws the number.
Part = tuple[str, int, int]


def evaluate_side_by_side(
    prepared: PreparedEvaluation, jobs: int
) -> tuple[PreparedEvaluation, Report]:
    """As `crossvalidate.evaluate`, with `jobs` processes that make models and baselines.

    Returns: the evaluation as it is prepared when all models are there, and its report.
    Raises: as `evaluate`; InputError where several ranks train one model.
    """
    trainer = prepared.recipe.trainer
    if trainer.devices * trainer.nodes > 1 or int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        raise InputError(
            "--jobs: each job trains a model of its own in one process; leave trainer.devices and "
            "trainer.nodes at 1, and start one task"
        )
    recipe = _alone(prepared.recipe)
    parts = _parts(prepared)
    found: list[list[Answers]] = []
    with holding(prepared.folder / LOCK), _stopping(prepared):
        title = f"models and baselines of {prepared.recipe.name}, {jobs} at a time"
        work = partial(_make, dump(recipe))
        with (
            progress.stage(title, len(parts)) as advance,
            closing(in_order(work, parts, jobs, batch=1)) as results,
        ):
            for part, result in zip(parts, results, strict=True):
                if result is not None:
                    found.append(result)
                advance(1, note=f"{part[0]} {part[1]}")
    again = prepare_evaluation(recipe)
    return again, evaluate(again, found)


def train_fold(recipe: Recipe, number: int) -> bool:
    """Train the models of one fold alone, as a task of a Slurm array does.

    Args: number: from 1.
    Returns: whether those of all folds are there now.
    Raises: InputError, Stopped; InUse where somebody trains them already.
    """
    asked = asked_of(recipe)
    if asked.fixed is not None or not 1 <= number <= len(asked.folds):
        held = "none: a fixed model is not trained" if asked.fixed else f"1 to {len(asked.folds)}"
        raise InputError(f"--fold {number}: the evaluation's folds are {held}")
    rooms = {FOLDS: asked.opened}
    if SCRATCH in recipe.evaluate.baselines:
        rooms[SCRATCH] = open_scratch(recipe)
    for run in _of_fold(asked, rooms, number):
        _train(asked, run)
    try:
        return all(
            run.is_trained
            for other in range(1, len(asked.folds) + 1)
            for run in _of_fold(asked, rooms, other)
        )
    except InUse:
        return False


def _of_fold(
    asked: PreparedEvaluation, rooms: Mapping[str, Opened], number: int
) -> Iterator[PreparedRun]:
    """The models of a fold, those without pretraining too.

    Args: rooms: `FOLDS`, and where asked for `SCRATCH` -> their data.
    Raises: as `prepare_fold`.
    """
    for kind, opened in rooms.items():
        for repeat in range(asked.recipe.evaluate.repeats):
            yield prepare_fold(opened, _folder(asked, kind), asked.plan, number, repeat)


def _folder(asked: PreparedEvaluation, kind: str) -> Path:
    return asked.folder / SCRATCH if kind == SCRATCH else asked.folder


def _train(asked: PreparedEvaluation, run: PreparedRun) -> None:
    """A fold's model, on the matrices that its fold sees."""
    names = [question.target.name for question in asked.questions]
    trained(replace(run, opened=harmonised(run.opened, run.train, names)))


def _alone(recipe: Recipe) -> Recipe:
    """With as many threads as each of several processes has."""
    return replace(recipe, trainer=replace(recipe.trainer, threads=recipe.trainer.threads or 1))


def _parts(prepared: PreparedEvaluation) -> list[Part]:
    """The longest first: models, then what is fitted beside them."""
    parts: list[Part] = []
    for kind, runs in ((FOLDS, prepared.runs), (SCRATCH, prepared.scratch)):
        parts += [(kind, n, r) for n, of_fold in enumerate(runs, 1) for r in range(len(of_fold))]
    parts += [(OF_EVERYBODY, 1, 0)] if prepared.final else []
    parts += [(DRAWS, number, 0) for number in range(1, len(prepared.draws) + 1)]
    return parts + [(BASELINES, number, 0) for number in range(1, len(prepared.folds) + 1)]


# -- in another process ----------------------------------------------------------------------------


def _make(text: str, part: Part) -> list[Answers] | None:
    """Train a model, or fit a fold's baselines and give their answers.

    Args: text: the recipe.
    Raises: InputError, Stopped.
    """
    with quiet():
        asked = _asked(text)
        if part[0] == BASELINES:
            edges = asked.opened.source.gather(asked.scans).astype(np.float32)
            return baselines_of_fold(asked, part[1] - 1, edges)
        run = _prepared(text, part)
        if part[0] in (FOLDS, SCRATCH):
            _train(asked, run)
        else:
            trained(run)
        return None


@cache
def _asked(text: str) -> PreparedEvaluation:
    return asked_of(_recipe(text))


@cache
def _scratch(text: str) -> Opened:
    return open_scratch(_recipe(text))


def _recipe(text: str) -> Recipe:
    return from_stored(Recipe, parse(text, "recipe"))


def _prepared(text: str, part: Part) -> PreparedRun:
    """Of this model alone: the others are being trained by other processes."""
    asked, (kind, number, repeat) = _asked(text), part
    if kind in (FOLDS, SCRATCH):
        opened = _scratch(text) if kind == SCRATCH else asked.opened
        return prepare_fold(opened, _folder(asked, kind), asked.plan, number, repeat)
    if kind == OF_EVERYBODY:
        return prepare_final(asked.opened, asked.folder)
    drawn = draws_of(asked.recipe, asked.opened.sets, asked.plan)[number - 1]
    return prepare_draw(asked.opened, asked.folder, asked.plan, drawn)


@contextlib.contextmanager
def _stopping(prepared: PreparedEvaluation) -> Iterator[None]:
    """A signal ends the processes at once: each model has the checkpoint of its last epoch."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(f"{prepared.folder}: stopped by a signal; each model has a good checkpoint")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
