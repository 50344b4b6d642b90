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
from functools import lru_cache, partial
from pathlib import Path
from types import FrameType

import numpy as np
from threadpoolctl import threadpool_limits

from lcm_scale import progress
from lcm_scale.config import Recipe, dump, from_stored
from lcm_scale.config.run import SCRATCH
from lcm_scale.config.yaml_text import parse
from lcm_scale.data.pool import as_done, start
from lcm_scale.errors import InputError, Stopped
from lcm_scale.evaluation import MAKERS
from lcm_scale.evaluation.confounds import answers_of_fold
from lcm_scale.evaluation.crossvalidate import evaluate
from lcm_scale.evaluation.harmonise import harmonised
from lcm_scale.evaluation.held_out import Answers
from lcm_scale.evaluation.plain import Beside, baselines_of_draw, baselines_of_fold
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
from lcm_scale.evaluation.protocols.label_counts import Labelled, draws_of
from lcm_scale.evaluation.results import Report
from lcm_scale.lock import InUse, holding
from lcm_scale.terminal import quiet
from lcm_scale.training.prepare import Opened, PreparedRun
from lcm_scale.training.signals import SIGNALS
from lcm_scale.training.trained import trained
from lcm_scale.weights.checkpoints import OF_EVERYBODY

FOLDS, DRAWS, BASELINES, TOLD = "fold", "labels", "baselines", "confounds"
# What is made, and which: of a fold (from 1) and repeat (from 0); of draws the number.
Part = tuple[str, int, int]
Found = dict[Part, list[Answers]]  # what plain models answer, one a question; models: nothing


def evaluate_side_by_side(
    prepared: PreparedEvaluation, jobs: int
) -> tuple[PreparedEvaluation, Report]:
    """As `crossvalidate.evaluate`, with `jobs` processes that make models and baselines.

    Returns: the evaluation as it is prepared when all models are there, and its report.
    Raises: as `evaluate`; InputError where several ranks train one model.
    """
    check_alone(prepared.recipe)
    start(*MAKERS)
    recipe = alone(prepared.recipe)
    parts = parts_of(prepared)
    found: Found = {}
    with holding(prepared.folder / LOCK), stopping(prepared.folder):
        title = f"models and baselines of {prepared.recipe.name}, {jobs} at a time"
        work = partial(make, dump(recipe))
        with (
            progress.stage(title, len(parts)) as advance,
            closing(as_done(work, parts, jobs)) as results,
        ):
            for part, result in results:
                found[part] = result
                advance(1, note=said(part))
    again = prepare_evaluation(recipe)
    return again, evaluate(again, beside(found))


def beside(found: Found) -> Beside:
    """What plain models answered, from all parts of an evaluation."""

    def of(kind: str) -> list[list[Answers]]:
        return [found[part] for part in sorted(found) if part[0] == kind]

    return Beside(of(BASELINES), of(TOLD), [only for (only,) in of(DRAWS)])


def said(part: Part) -> str:
    return f"{part[0]} {part[1]}"


def check_alone(recipe: Recipe) -> None:
    """Raises: InputError where several ranks train one model."""
    trainer = recipe.trainer
    if trainer.devices * trainer.nodes > 1 or int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        raise InputError(
            "--jobs: each job trains a model of its own in one process; leave trainer.devices and "
            "trainer.nodes at 1, and start one task"
        )


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


def alone(recipe: Recipe) -> Recipe:
    """With as many threads as each of several processes has."""
    return replace(recipe, trainer=replace(recipe.trainer, threads=recipe.trainer.threads or 1))


def parts_of(prepared: PreparedEvaluation) -> list[Part]:
    """The longest first: models, then what is fitted beside them."""
    parts: list[Part] = []
    folds = range(1, len(prepared.folds) + 1)
    for kind, runs in ((FOLDS, prepared.runs), (SCRATCH, prepared.scratch)):
        parts += [(kind, n, r) for n, of_fold in enumerate(runs, 1) for r in range(len(of_fold))]
    parts += [(OF_EVERYBODY, 1, 0)] if prepared.final else []
    parts += [(DRAWS, number, 0) for number in range(1, len(prepared.draws) + 1)]
    parts += [(BASELINES, number, 0) for number in folds]
    asks = prepared.recipe.evaluate.confounds
    return parts + [(TOLD, number, 0) for number in folds if asks]


# -- in another process ----------------------------------------------------------------------------


def make(text: str, part: Part) -> list[Answers]:
    """Train a model, or fit what stands beside those of a fold, and give its answers.

    Args: text: the recipe.
    Raises: InputError, Stopped.
    """
    with quiet(), threadpool_limits(_recipe(text).trainer.threads):
        asked, (kind, number, _) = _asked(text), part
        if kind == TOLD:
            return answers_of_fold(asked, number - 1)
        if kind == BASELINES:
            return baselines_of_fold(asked, number - 1, _edges(asked))
        run = _prepared(text, part)
        if kind in (FOLDS, SCRATCH):
            _train(asked, run)
            return []
        trained(run)
        if kind == OF_EVERYBODY:
            return []
        return [baselines_of_draw(asked, _drawn(asked, number), _edges(asked), run.label)]


def _edges(asked: PreparedEvaluation) -> np.ndarray:
    return asked.opened.source.gather(asked.scans).astype(np.float32)


def _drawn(asked: PreparedEvaluation, number: int) -> Labelled:
    return draws_of(asked.recipe, asked.opened.sets, asked.plan)[number - 1]


@lru_cache(2)  # an ablation has a recipe a variant, and data may be large
def _asked(text: str) -> PreparedEvaluation:
    return asked_of(_recipe(text))


@lru_cache(2)
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
    return prepare_draw(asked.opened, asked.folder, asked.plan, _drawn(asked, number))


@contextlib.contextmanager
def stopping(folder: Path) -> Iterator[None]:
    """A signal ends the processes at once: each model has the checkpoint of its last epoch."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(f"{folder}: stopped by a signal; each model has a good checkpoint")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
