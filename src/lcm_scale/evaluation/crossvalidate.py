"""Honest evaluation: models trained fold by fold, each held-out scan read once, plain models beside
them.

In: a prepared evaluation. Each outer fold trains its own model (from `init_from` where the recipe
names one) on the fold's training people plus the other sets' scans, an inner validation split
chooses the epoch, the held-out people are scored once. Out: measured targets and the facts beside
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from lcm_scale import progress
from lcm_scale.config.run import ALL_LABELS, SCRATCH
from lcm_scale.evaluation import scratch
from lcm_scale.evaluation.calibrate import UNCALIBRATED, calibrated
from lcm_scale.evaluation.ceilings import ceilings
from lcm_scale.evaluation.conformal import promises
from lcm_scale.evaluation.corrected import FoldValues
from lcm_scale.evaluation.few_labels import joined, point_of
from lcm_scale.evaluation.harmonise import harmonised
from lcm_scale.evaluation.held_out import Answers, measured, predictions_of, together
from lcm_scale.evaluation.intervals import Draws
from lcm_scale.evaluation.labelled import with_label
from lcm_scale.evaluation.metrics import Metric, primary
from lcm_scale.evaluation.plain import Beside, baselines_of_draw, baselines_of_fold
from lcm_scale.evaluation.prepare import LOCK, PreparedEvaluation
from lcm_scale.evaluation.questions import Question
from lcm_scale.evaluation.results import CEILING, LabelPoint, Report, TargetResult
from lcm_scale.evaluation.summary import summarise
from lcm_scale.inference.predictor import DECODER, PEOPLE, WHOLE, Predictor
from lcm_scale.lock import holding
from lcm_scale.ranks import is_first
from lcm_scale.training.computing import choose_threads, computed_before
from lcm_scale.training.folder import write_evaluation
from lcm_scale.training.result import FitResult, checkpoint_of
from lcm_scale.training.trained import trained
from lcm_scale.weights import checkpoints
from lcm_scale.weights.checkpoints import Checkpoint

MODEL = "LCM"
PARTS = (UNCALIBRATED, PEOPLE, DECODER)


def evaluate(prepared: PreparedEvaluation, beside: Beside | None = None) -> Report:
    """Train and score every fold, the baselines beside it.

    Args: beside: what plain models answer, where that is known already.
    Raises: Stopped where a signal ended it: finished folds are not trained again; InputError where
        another evaluation is at work in the folder.
    """
    with holding(prepared.folder / LOCK), computing_alike(prepared):
        return _evaluate(prepared, beside)


@contextmanager
def computing_alike(prepared: PreparedEvaluation) -> Iterator[None]:
    """Compute with as many threads as the models train with, also where they are trained already,
    and the plain models beside them with as many as the recipe says: another number of them changes
    last digits."""
    before = torch.get_num_threads()
    with threadpool_limits(prepared.recipe.trainer.threads):
        if prepared.runs:
            run = prepared.runs[0][0]
            torch.set_num_threads(choose_threads(run, computed_before(run)).number)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _evaluate(prepared: PreparedEvaluation, known: Beside | None) -> Report:
    if is_first():
        write_evaluation(prepared.recipe, prepared.folder, prepared.opened.sets.fingerprints)
    asked = [question.asked for question in prepared.questions]
    names = [name for name, _ in asked]
    config = prepared.recipe.evaluate
    wants_watched = config.calibration != "none" or config.conformal > 0
    edges = prepared.opened.source.gather(prepared.scans).astype(np.float32)
    results: list[FitResult] = []
    answers: list[Sequence[Answers]] = []
    asides: list[list[np.ndarray]] = []  # of each fold, of who chooses its epoch
    folds = list(zip(prepared.folds, prepared.training, strict=True))
    with progress.stage(f"folds of {prepared.recipe.name}", len(folds)) as advance:
        for number, (fold, train) in enumerate(folds):
            test = prepared.scans[fold.test]
            opened = harmonised(prepared.opened, train, names)
            predictor = Predictor(opened.sets, opened.source, prepared.recipe)
            scores: list[dict[str, list[np.ndarray]]] = []
            watched: list[list[np.ndarray]] = []  # of who chooses the epoch, one a model
            if prepared.fixed is not None:
                scores.append(predictor.answers_of_parts(prepared.fixed, test, asked))
            for run in prepared.runs[number] if prepared.runs else ():
                results.append(trained(replace(run, opened=opened)))
                if prepared.plan.optimistic:
                    scores.append(_best_by_target(prepared, results[-1].folder, predictor, test))
                    continue
                model = checkpoints.load(results[-1].checkpoint, harmonised=True)
                scores.append(predictor.answers_of_parts(model, test, asked))
                if wants_watched:
                    watchers = prepared.scans[fold.validation]
                    watched.append(
                        predictor.answers(_stranger_to(results[-1], model), watchers, asked)
                    )
            ours = _averaged(scores)
            asides.append([np.mean(same, axis=0) for same in zip(*watched, strict=True)])
            if config.calibration != "none":
                ours = calibrated(prepared, number, ours, asides[-1], MODEL)
            plain = known.baselines[number] if known else baselines_of_fold(prepared, number, edges)
            anew = prepared.scratch[number] if prepared.scratch else ()
            bare = scratch.answers(anew, train, test, asked)
            best = ceilings(prepared.opened.sets, prepared.questions, prepared.plan.tested, test)
            beside = zip(ours, bare, plain, best, strict=True)
            answers.append([mine | new | rest | most for mine, new, rest, most in beside])
            advance()
    targets = []
    with progress.stage("intervals", len(prepared.questions), aside=True) as advance:
        for question, of_folds in zip(prepared.questions, zip(*answers, strict=True), strict=True):
            targets.append(_result(prepared, question, of_folds))
            advance()
    curve = _label_curve(prepared, targets[0], edges, known.draws if known else ())
    promised = promises(prepared, answers, asides, MODEL)
    return summarise(prepared, targets, results, curve, promised, known.told if known else None)


def _stranger_to(result: FitResult, model: Checkpoint) -> Checkpoint:
    """The model as it is to the people who choose its epoch: a final people memory has them."""
    unseen = result.checkpoint.with_name(checkpoints.UNSEEN)
    return checkpoints.load(unseen, harmonised=True) if unseen.is_file() else model


def _best_by_target(
    prepared: PreparedEvaluation, folder: Path, predictor: Predictor, test: np.ndarray
) -> dict[str, list[np.ndarray]]:
    """Answers of a run, to each question by the epoch that did best at it."""
    answers = []
    for question in prepared.questions:
        model = checkpoints.load(checkpoint_of(folder, question.column))
        answers += predictor.answers(model, test, [question.asked])
    return {WHOLE: answers}


def _label_curve(
    prepared: PreparedEvaluation, whole: TargetResult, edges: np.ndarray, plain: Sequence[Answers]
) -> list[LabelPoint]:
    """The headline at every number of labelled people that the recipe asks for.

    Args:
        whole: the headline with all labels.   edges: (n, E) of the evaluated scans.
        plain: what baselines answer, one a draw, where that is known already.
    """
    config, question, folds = prepared.recipe.evaluate, prepared.questions[0], prepared.folds
    predictor = Predictor(prepared.opened.sets, prepared.opened.source, prepared.recipe)
    answers: dict[int, list[Answers]] = {}  # labelled people -> one a draw and fold
    with progress.stage("draws of few labels", len(prepared.draws), aside=True) as advance_draws:
        for number, (drawn, run) in enumerate(prepared.draws):
            model = checkpoints.load(trained(run).checkpoint)
            test = prepared.scans[folds[drawn.fold].test]
            (ours,) = _averaged([predictor.answers_of_parts(model, test, [question.asked])])
            beside = (
                plain[number] if plain else baselines_of_draw(prepared, drawn, edges, run.label)
            )
            answers.setdefault(drawn.count, []).append(ours | beside)
            advance_draws()
    points = []
    for count, found in answers.items():
        of_draws = [found[first : first + len(folds)] for first in range(0, len(found), len(folds))]
        parts = [predictions_of(prepared, question, of_draw) for of_draw in of_draws]
        drawn_by_model = {m: joined([part[m] for part in parts], len(folds)) for m in parts[0]}
        of = together(prepared.opened.sets, drawn_by_model[MODEL].predictions)
        points.append(point_of(drawn_by_model, MODEL, count, config.bootstrap, config.seed, of))
    if ALL_LABELS in config.label_counts:
        sets, fitted = prepared.opened.sets, [prepared.scans[fold.fitted] for fold in folds]
        people = float(np.mean([len(with_label(question, sets, scans)) for scans in fitted]))
        results, differences = (  # fewer labels are not calibrated
            {
                name: each
                for name, each in of_models.items()
                if name not in (UNCALIBRATED, SCRATCH, CEILING)
            }
            for of_models in (whole.results, whole.differences)
        )
        points.append(LabelPoint(ALL_LABELS, people, 1, results, differences))
    return points


def _averaged(scores: Sequence[Mapping[str, Sequence[np.ndarray]]]) -> list[Answers]:
    """The mean answers of a fold's models, one a question.

    Args: scores: of each model, by part and question.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for part in scores[0]:
        of_models = zip(*(each[part] for each in scores), strict=True)
        parts[_named(part)] = [np.mean(same, axis=0) for same in of_models]
    return [
        dict(zip(parts, of_question, strict=True))
        for of_question in zip(*parts.values(), strict=True)
    ]


def _result(
    prepared: PreparedEvaluation,
    question: Question,
    answers: Sequence[Answers],
) -> TargetResult:
    """One target's metrics and paired differences.

    Args: answers: one a fold.
    """
    config = prepared.recipe.evaluate
    predictions = predictions_of(prepared, question, answers)
    scored = next(iter(predictions.values()))
    draws = {model: measured(prepared, p) for model, p in predictions.items()}
    return TargetResult(
        target=question.target.name,
        kind=question.kind,
        categories=question.categories,
        n_scans=len(np.unique(scored.scan)),
        n_subjects=len(np.unique(scored.subject)),
        results={model: each.metrics() for model, each in draws.items()},
        differences=_differences(draws),
        deciding=primary(question.kind, len(question.categories), config.primary),
        confounded=config.confounded.get(question.target.name),
        predictions=tuple(predictions.values()),
        unit=question.target.measured_in,
        parts=tuple(_named(part) for part in PARTS if _named(part) in predictions),
    )


def _differences(measured: Mapping[str, Draws | FoldValues]) -> dict[str, tuple[Metric, ...]]:
    """Of the model minus each other one that could be had."""
    ours = measured[MODEL]
    return {
        model: ours.minus(each)  # type: ignore[arg-type]  # all were measured alike
        for model, each in measured.items()
        if model not in (MODEL, CEILING)
    }


def _named(part: str) -> str:
    """Of the model, or of a part of it, in tables."""
    return MODEL if part == WHOLE else part
