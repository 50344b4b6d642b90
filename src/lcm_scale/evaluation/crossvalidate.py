"""Honest evaluation: models trained fold by fold, each held-out scan read once, plain models beside
them.

In: a prepared evaluation. Each outer fold trains its own model (from `init_from` where the recipe
names one) on the fold's training people plus the other sets' scans, an inner validation split
chooses the epoch, the held-out people are scored once. Out: measured targets and the facts beside
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lcm_scale import progress
from lcm_scale.evaluation.baselines import fit_predict
from lcm_scale.evaluation.metrics import Predictions, primary, resampled
from lcm_scale.evaluation.prepare import LOCK, PreparedEvaluation
from lcm_scale.evaluation.questions import Question
from lcm_scale.evaluation.results import Report, TargetResult
from lcm_scale.evaluation.summary import summarise
from lcm_scale.evaluation.units import averaged
from lcm_scale.inference.predictor import DECODER, PEOPLE, WHOLE, Predictor
from lcm_scale.lock import holding
from lcm_scale.ranks import is_first
from lcm_scale.training.fit import FitResult, fit
from lcm_scale.training.folder import write_evaluation
from lcm_scale.weights import checkpoints

MODEL = "LCM"
PARTS = (PEOPLE, DECODER)


def evaluate(prepared: PreparedEvaluation) -> Report:
    """Train and score every fold, the baselines beside it.

    Raises: Stopped where a signal ended it: finished folds are not trained again; InputError where
        another evaluation is at work in the folder.
    """
    with holding(prepared.folder / LOCK):
        return _evaluate(prepared)


def _evaluate(prepared: PreparedEvaluation) -> Report:
    if is_first():
        write_evaluation(prepared.recipe, prepared.folder, prepared.opened.sets.fingerprints)
    predictor = Predictor(prepared.opened.sets, prepared.opened.source, prepared.recipe)
    asked = [(question.target.name, question.codes) for question in prepared.questions]
    results: list[FitResult] = []
    held_out: list[dict[str, list[np.ndarray]]] = []
    for number, fold in enumerate(prepared.folds):
        test = prepared.scans[fold.test]
        scores = []
        if prepared.fixed is not None:
            scores.append(predictor.answers_of_parts(prepared.fixed, test, asked))
        for run in prepared.runs[number] if prepared.runs else ():
            results.append(fit(run))
            model = checkpoints.load(results[-1].checkpoint)
            scores.append(predictor.answers_of_parts(model, test, asked))
        held_out.append(
            {
                part: [
                    np.mean(same, axis=0) for same in zip(*(s[part] for s in scores), strict=True)
                ]
                for part in scores[0]
            }
        )
    targets = _measure(prepared, predictor.edges(prepared.scans), held_out)
    return summarise(prepared, targets, results)


def _measure(
    prepared: PreparedEvaluation,
    edges: np.ndarray,
    held_out: Sequence[Mapping[str, Sequence[np.ndarray]]],
) -> list[TargetResult]:
    """Metrics of the model and of every baseline, target by target, on the same held-out scans.

    Args:
        edges: (n, E) of the evaluated scans.
        held_out: the model's answers, by fold, part and question.
    """
    sets, config = prepared.opened.sets, prepared.recipe.evaluate
    results = []
    steps = len(prepared.questions) * len(config.baselines) * len(prepared.folds)
    with progress.stage("baselines", steps) as advance:
        for number, question in enumerate(prepared.questions):
            truth = question.truth(sets.labels[prepared.scans])
            scores = {
                _named(part): [by_part[part][number] for by_part in held_out]
                for part in held_out[0]
            }
            for baseline in config.baselines:
                scores[baseline] = []
                for fold in prepared.folds:
                    train = np.concatenate([fold.train, fold.validation])
                    train = train[np.isfinite(truth[train])]
                    scores[baseline].append(
                        fit_predict(
                            baseline,
                            edges[train],
                            truth[train],
                            sets.subject[prepared.scans[train]],
                            edges[fold.test],
                            question.kind,
                            len(question.categories),
                            config.seed,
                            sets.kinds_of(prepared.scans),
                        )
                    )
                    advance(1, note=f"{question.target.name}: {baseline}")
            results.append(_result(prepared, question, truth, scores))
    return results


def _result(
    prepared: PreparedEvaluation,
    question: Question,
    truth: np.ndarray,
    scores: Mapping[str, Sequence[np.ndarray]],
) -> TargetResult:
    """One target's metrics and paired differences.

    Args:
        truth: (n,) of the evaluated scans, NaN where missing.
        scores: model or baseline -> its answers to each fold's held-out scans.
    """
    sets, folds, config = prepared.opened.sets, prepared.folds, prepared.recipe.evaluate
    tested = np.concatenate([fold.test for fold in folds])
    fold_of = np.repeat(np.arange(1, len(folds) + 1), [len(fold.test) for fold in folds])
    known = np.isfinite(truth[tested])
    codes = truth[tested][known]
    scans = prepared.scans[tested][known]
    predictions = {
        model: averaged(
            Predictions(
                model=model,
                target=question.target.name,
                kind=question.kind,
                categories=question.categories,
                truth=codes.astype(np.int64) if question.target.is_class else codes,
                scores=np.concatenate(parts)[known],
                subject=np.array(sets.subjects)[sets.subject[scans]],
                fold=fold_of[known],
                scan=scans,
            ),
            config.unit,
            sets,
        )
        for model, parts in scores.items()
    }
    draws = {model: resampled(p, config.bootstrap, config.seed) for model, p in predictions.items()}
    return TargetResult(
        target=question.target.name,
        kind=question.kind,
        categories=question.categories,
        n_scans=len(next(iter(predictions.values())).truth),
        n_subjects=len(np.unique(sets.subject[scans])),
        results={model: drawn.metrics() for model, drawn in draws.items()},
        differences={
            model: draws[MODEL].minus(drawn) for model, drawn in draws.items() if model != MODEL
        },
        deciding=primary(question.kind, len(question.categories), config.primary),
        confounded=config.confounded.get(question.target.name),
        predictions=tuple(predictions.values()),
        unit=question.target.measured_in,
        parts=tuple(_named(part) for part in PARTS if _named(part) in predictions),
    )


def _named(part: str) -> str:
    """Of the model, or of a part of it, in tables."""
    return MODEL if part == WHOLE else part
