"""An evaluation's models trained some at a time as one batched model, in this process.

Each is what it is when trained alone, to fp32 rounding, in its own folder: what is finished is not
made again, what was killed goes on, and `crossvalidate` then finds all of it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lcm_scale.errors import InputError
from lcm_scale.evaluation.crossvalidate import evaluate
from lcm_scale.evaluation.harmonise import harmonised
from lcm_scale.evaluation.prepare import LOCK, PreparedEvaluation, prepare_evaluation
from lcm_scale.evaluation.results import Report
from lcm_scale.lock import holding
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.stack import check_stack, train_stack

KEY = "--together"


def check_as_one(prepared: PreparedEvaluation) -> None:
    """Raises: InputError where the evaluation's models cannot train as one."""
    if prepared.fixed is not None:
        raise InputError(f"{KEY}: evaluate.checkpoint names a fixed model, which is not trained")
    check_stack(prepared.runs[0][0], KEY)


def evaluate_as_one(
    prepared: PreparedEvaluation, together: int
) -> tuple[PreparedEvaluation, Report]:
    """As `crossvalidate.evaluate`, with models trained together first.

    Args: together: how many at most.
    Returns: the evaluation as it is prepared when all models are there, and its report.
    Raises: as `evaluate` and `check_as_one`.
    """
    check_as_one(prepared)
    with holding(prepared.folder / LOCK):
        for part in _parts(prepared, together):
            runs = [_with_its_matrices(prepared, run) for run in part]
            train_stack(runs, f"{len(runs)} models of {prepared.recipe.name} together")
    again = prepare_evaluation(prepared.recipe)
    return again, evaluate(again)


def _parts(prepared: PreparedEvaluation, together: int) -> Iterator[list[PreparedRun]]:
    """The runs that are not trained yet, of one model and schedule each, evenly divided."""
    every = [run for of_fold in (*prepared.runs, *prepared.scratch) for run in of_fold]
    every += [run for _, run in prepared.draws]
    every += [prepared.final] if prepared.final else []
    waiting = [run for run in every if run.done < run.steps]
    kinds = list(dict.fromkeys((run.opened.model, run.opened.phases) for run in waiting))
    for kind in kinds:
        alike = [run for run in waiting if (run.opened.model, run.opened.phases) == kind]
        parts = -(-len(alike) // together)
        size = -(-len(alike) // parts)
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def _with_its_matrices(prepared: PreparedEvaluation, run: PreparedRun) -> PreparedRun:
    """As its fold sees them."""
    names = [question.target.name for question in prepared.questions]
    return replace(run, opened=harmonised(run.opened, run.train, names))
