"""Honest evaluation: models trained fold by fold, each held-out scan read once, plain models beside
them.

In: a recipe. Each outer fold trains its own model (from `init_from` where the recipe names one) on
the fold's training people plus the other sets' scans, an inner validation split chooses the epoch,
the held-out people are scored once. A checkpoint that saw any evaluated person is refused, whoever
it was pretrained by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale import progress
from lcm_scale.config import Recipe, expand
from lcm_scale.data.sets import ShardSets
from lcm_scale.data.stream import Edges, open_edges
from lcm_scale.errors import InputError, nearest
from lcm_scale.evaluation.baselines import BASELINES, fit_predict
from lcm_scale.evaluation.folds import Fold, class_shortages, require_classes, subject_folds
from lcm_scale.evaluation.metrics import (
    PRIMARY,
    Predictions,
    evaluate_predictions,
    paired_difference,
)
from lcm_scale.evaluation.results import Report, TargetResult
from lcm_scale.inference.predictor import Predictor
from lcm_scale.provenance import provenance
from lcm_scale.training.fit import FitResult, fit, open_folder, prepare, run_folder
from lcm_scale.vocabulary import NOT_APPLICABLE, Target
from lcm_scale.weights import checkpoints
from lcm_scale.weights.checkpoints import Checkpoint

MODEL = "LCM"
UNKNOWN_SUBJECTS = (
    "The model starts from imported weights, which do not say whom they saw: whether people evaluated here were among them "
    "cannot be checked. If they were, its numbers are too good."
)


@dataclass(frozen=True)
class Question:
    """One target as it is asked of the evaluated set.

    Attributes:
        column: its column in `ShardSets.labels`.
        categories: the set's own labels; N/A and other sets' categories are no answers.
        codes: (C,) their codes in the run's vocabulary, empty for a scalar.
    """

    target: Target
    column: int
    categories: tuple[str, ...]
    codes: tuple[int, ...]

    @property
    def kind(self) -> str:
        return "class" if self.target.is_class else "scalar"

    def truth(self, labels: np.ndarray) -> np.ndarray:
        """(n,) position in `categories` or value, NaN where missing or no answer."""
        column = labels[:, self.column]
        if not self.target.is_class:
            return column
        out = np.full(len(column), np.nan)
        for position, code in enumerate(self.codes):
            out[column == code] = position
        return out


def evaluate(recipe: Recipe, dry_run: bool = False) -> Path:
    """Cross-validate a recipe and write `report.html` into its run folder.

    Returns: the report's path.  Raises: InputError; nothing is trained before the inputs are known
        to be good.
    """
    for name in recipe.evaluate.baselines:
        if name not in BASELINES:
            raise InputError(
                f"evaluate.baselines: '{name}'{nearest(name, BASELINES)} (one of {', '.join(BASELINES)})"
            )
    sets, start = prepare(recipe)
    fixed = _fixed_model(recipe, start)
    scans = sets.scans_of([evaluated_set(recipe, sets)])
    questions = questions_of(recipe, sets, start, fixed)
    folds = folds_of(recipe, sets, scans, questions)
    for seen in (start, fixed):
        refuse_overlap(seen, sets, scans)
    folder = run_folder(recipe)
    if dry_run:
        return folder / "report.html"
    if not (folder / "recipe.yaml").is_file():  # a finetuned run's folder keeps its own
        open_folder(recipe, folder)
    predictor = Predictor(sets, open_edges(sets, recipe.data.resident_gb), recipe)
    runs: list[FitResult] = []
    held_out: list[list[np.ndarray]] = []
    for number, fold in enumerate(folds):
        parts = []
        for repeat in range(1 if fixed else recipe.evaluate.repeats):
            model = fixed
            if model is None:
                result = _train_fold(
                    recipe, sets, predictor.source, scans, fold, folder, start, number, repeat
                )
                runs.append(result)
                model = checkpoints.load(result.checkpoint)
            parts.append(
                predictor.answers(
                    model, scans[fold.test], [(q.target.name, q.codes) for q in questions]
                )
            )
        held_out.append([np.mean(same, axis=0) for same in zip(*parts, strict=True)])
    results = _compare(recipe, sets, predictor, scans, folds, questions, held_out)
    from lcm_scale.report.write import write_report

    return write_report(
        _report(recipe, sets, scans, folds, questions, results, runs, start, fixed), folder
    )


def _fixed_model(recipe: Recipe, start: Checkpoint | None) -> Checkpoint | None:
    if recipe.evaluate.checkpoint is None:
        return None
    if start is not None:
        raise InputError(
            "evaluate.checkpoint and init_from exclude each other: a fixed model is not trained further"
        )
    return checkpoints.load(expand(recipe.evaluate.checkpoint))


def evaluated_set(recipe: Recipe, sets: ShardSets) -> str:
    name = recipe.evaluate.set or sets.names[-1]
    if name not in sets.names:
        raise InputError(
            f"evaluate.set={name} is not in data.sets ({', '.join(sets.names)}){nearest(name, sets.names)}"
        )
    return name


def questions_of(
    recipe: Recipe, sets: ShardSets, start: Checkpoint | None, fixed: Checkpoint | None
) -> list[Question]:
    """The evaluated targets, the headline first."""
    own = sets.manifests[sets.names.index(evaluated_set(recipe, sets))]
    renames = {new: old for old, new in sets.renames[sets.names.index(own.name)].items()}
    available = [t for t in sets.vocabulary.targets if t.name in renames]
    active = recipe.phases[-1].targets
    wanted = recipe.evaluate.targets or [
        t.name for t in available if not active or t.name in active
    ]
    headline = recipe.evaluate.target or (wanted[0] if wanted else "")
    names = list(dict.fromkeys([headline, *wanted]))
    known = [t.name for t in available]
    questions = []
    for name in names:
        if name not in known:
            raise InputError(
                f"evaluate: set {own.name} has no target '{name}'{nearest(name, known)} ({', '.join(known)})"
            )
        if active and name not in active:
            raise InputError(
                f"evaluate: target '{name}' is not among the last phase's targets ({', '.join(active)})"
            )
        target = sets.vocabulary[name]
        labels = tuple(c for c in own.vocabulary[renames[name]].categories if c != NOT_APPLICABLE)
        if fixed is not None:
            _must_know(fixed, name, labels)
        codes = tuple(target.categories.index(c) for c in labels) if target.is_class else ()
        questions.append(Question(target, sets.vocabulary.names.index(name), labels, codes))
    for name in recipe.evaluate.confounded:
        if name not in names:
            raise InputError(
                f"evaluate.confounded: '{name}' is not evaluated{nearest(name, names)}"
            )
    return questions


def _must_know(model: Checkpoint, name: str, labels: Sequence[str]) -> None:
    if name not in model.active or not set(labels) <= set(model.vocabulary[name].categories):
        raise InputError(
            f"{model.path}: a checkpoint of another vocabulary: it does not know {name} ({', '.join(labels)}); "
            f"it was trained on {', '.join(model.active)}"
        )


def folds_of(
    recipe: Recipe, sets: ShardSets, scans: np.ndarray, questions: Sequence[Question]
) -> list[Fold]:
    config = recipe.evaluate
    stratify = None
    if config.stratify == "site" and "site" not in sets.vocabulary.names:
        stratify = sets.site[scans]
    elif config.stratify:
        column = sets.vocabulary.names.index(sets.vocabulary[config.stratify].name)
        stratify = np.nan_to_num(sets.labels[scans, column], nan=-1).astype(np.int64)
    folds = subject_folds(
        sets.subject[scans],
        sets.subject_ranks,
        config.folds,
        config.seed,
        stratify,
        recipe.data.validation,
    )
    head = questions[0]
    if head.target.is_class:
        codes = np.nan_to_num(head.truth(sets.labels[scans]), nan=-1)
        for number, fold in enumerate(folds):
            require_classes(
                fold, codes, head.target.name, head.categories, sets.subject[scans], number + 1
            )
    return folds


def refuse_overlap(model: Checkpoint | None, sets: ShardSets, scans: np.ndarray) -> None:
    """Pretraining is supervised on diagnosis: whoever it saw cannot be evaluated."""
    if model is None:
        return
    both = model.subjects & set(sets.subject_hashes(scans))
    if both:
        raise InputError(
            f"{model.path}: saw {len(both)} of the {len(sets.subject_hashes(scans))} people that would be evaluated; "
            "pretrain on other people, or drop init_from so that every fold trains from scratch"
        )


def _train_fold(
    recipe: Recipe,
    sets: ShardSets,
    source: Edges,
    scans: np.ndarray,
    fold: Fold,
    folder: Path,
    start: Checkpoint | None,
    number: int,
    repeat: int,
) -> FitResult:
    """One model; nobody of the fold's test or validation people is among its training scans, in any
    set."""
    name = f"fold-{number + 1}" + (f"-seed-{repeat + 1}" if recipe.evaluate.repeats > 1 else "")
    held = sets.subject[np.concatenate([scans[fold.test], scans[fold.validation]])]
    others = np.setdiff1d(sets.scans_of([]), scans)
    others = others[~np.isin(sets.subject[others], held)]
    train = np.sort(np.concatenate([scans[fold.train], others]))
    own = replace(recipe, name=f"{recipe.name}/{name}", seed=recipe.seed + 1000 * repeat)
    return fit(
        own,
        sets,
        source,
        train,
        scans[fold.validation],
        folder / "folds" / name,
        start,
        f"fold {number + 1}/{recipe.evaluate.folds}",
    )


def _compare(
    recipe: Recipe,
    sets: ShardSets,
    predictor: Predictor,
    scans: np.ndarray,
    folds: Sequence[Fold],
    questions: Sequence[Question],
    held_out: Sequence[Sequence[np.ndarray]],
) -> list[TargetResult]:
    """Metrics of the model and of every baseline, target by target, on the same held-out scans."""
    config = recipe.evaluate
    edges = predictor.edges(scans)
    results = []
    with progress.stage(
        "baselines", len(questions) * len(config.baselines) * len(folds)
    ) as advance:
        for q, question in enumerate(questions):
            truth = question.truth(sets.labels[scans])
            scores = {MODEL: [fold_scores[q] for fold_scores in held_out]}
            for baseline in config.baselines:
                scores[baseline] = []
                for fold in folds:
                    rest = np.concatenate([fold.train, fold.validation])
                    rest = rest[np.isfinite(truth[rest])]
                    scores[baseline].append(
                        fit_predict(
                            baseline,
                            edges[rest],
                            truth[rest],
                            sets.subject[scans[rest]],
                            edges[fold.test],
                            question.kind,
                            len(question.categories),
                            config.seed,
                        )
                    )
                    advance(1, note=f"{question.target.name}: {baseline}")
            results.append(
                _result(
                    config.bootstrap,
                    config.seed,
                    question,
                    truth,
                    scores,
                    sets,
                    scans,
                    folds,
                    config.confounded.get(question.target.name),
                )
            )
    return results


def _result(
    bootstrap: int,
    seed: int,
    question: Question,
    truth: np.ndarray,
    scores: dict[str, list[np.ndarray]],
    sets: ShardSets,
    scans: np.ndarray,
    folds: Sequence[Fold],
    confounded: str | None,
) -> TargetResult:
    tested = np.concatenate([fold.test for fold in folds])
    fold_of = np.repeat(np.arange(1, len(folds) + 1), [len(fold.test) for fold in folds])
    known = np.isfinite(truth[tested])
    codes = truth[tested][known]
    predictions = {
        model: Predictions(
            model=model,
            target=question.target.name,
            kind=question.kind,
            categories=question.categories,
            truth=codes.astype(np.int64) if question.target.is_class else codes,
            scores=np.concatenate(parts)[known],
            subject=np.array(sets.subjects)[sets.subject[scans[tested][known]]],
            fold=fold_of[known],
            scan=scans[tested][known],
        )
        for model, parts in scores.items()
    }
    primary = PRIMARY[question.kind]
    metrics = {
        model: tuple(evaluate_predictions(p, bootstrap, seed)) for model, p in predictions.items()
    }
    return TargetResult(
        target=question.target.name,
        kind=question.kind,
        categories=question.categories,
        n_scans=int(known.sum()),
        n_subjects=len(np.unique(sets.subject[scans[tested][known]])),
        results=metrics,
        differences={
            model: paired_difference(predictions[MODEL], p, primary, bootstrap, seed)
            for model, p in predictions.items()
            if model != MODEL
        },
        confounded=confounded,
        predictions=tuple(predictions.values()),
    )


def _report(
    recipe: Recipe,
    sets: ShardSets,
    scans: np.ndarray,
    folds: Sequence[Fold],
    questions: Sequence[Question],
    results: Sequence[TargetResult],
    runs: Sequence[FitResult],
    start: Checkpoint | None,
    fixed: Checkpoint | None,
) -> Report:
    own = sets.manifests[sets.names.index(evaluated_set(recipe, sets))]
    model = start or fixed
    notes = [note for manifest in sets.manifests for note in manifest.notes]
    for question in questions:
        if question.target.is_class:
            notes += _shortage_note(question, sets, scans, folds)
    if recipe.model.edge_branch:
        notes.append(
            "The model has a linear branch from the edges beside the decoder: ours, not part of the published LCM."
        )
    stages: list[tuple[str, dict[str, Any]]] = [
        (
            "shard",
            {
                m.name: f"{m.scans} scans of {len(m.subjects)} people, {m.atlas.name} ({m.atlas.n_regions} regions)"
                for m in sets.manifests
            },
        )
    ]
    if model is not None:
        known = len(model.subjects)
        stages.append(
            (
                "pretrain",
                {
                    "run": model.run,
                    "people seen": f"{known}, and others that imported weights do not name"
                    if model.unknown_subjects
                    else known,
                    "evaluated people among them": "cannot be checked"
                    if model.unknown_subjects
                    else 0,
                    "targets": ", ".join(model.active),
                },
            )
        )
        if model.unknown_subjects:
            notes.append(UNKNOWN_SUBJECTS)
    if runs:
        stages.append(
            (
                "train" if start is None else "finetune",
                {
                    "models": len(runs),
                    "optimiser steps": sum(r.steps for r in runs),
                    "phases": ", ".join(
                        f"{p.name} ({p.epochs} epochs, {p.stage}, {p.readout} readout)"
                        for p in recipe.phases
                    ),
                },
            )
        )
    stages.append(
        (
            "evaluate",
            {
                "folds": len(folds),
                "held-out scans": len(scans),
                "bootstrap": f"{recipe.evaluate.bootstrap} resamples of people",
            },
        )
    )
    return Report(
        title=recipe.title or recipe.name,
        simulated=sets.simulated,
        headline=questions[0].target.name,
        targets=tuple(results),
        notes=tuple(dict.fromkeys(notes)),
        protocol=_protocol(recipe),
        data={
            "set": own.name,
            "scans": len(scans),
            "people": len(np.unique(sets.subject[scans])),
            "atlas": own.atlas.name,
            "fingerprint": own.fingerprint,
        },
        stages=tuple(stages),
        curves=_curves(runs),
        pseudo_labels=_first_audit(runs),
        quality=dict(own.quality),
        provenance=provenance(recipe.seed),
    )


def _shortage_note(
    question: Question, sets: ShardSets, scans: np.ndarray, folds: Sequence[Fold]
) -> list[str]:
    codes = np.nan_to_num(question.truth(sets.labels[scans]), nan=-1)
    short = {
        s
        for fold in folds
        for s in class_shortages(fold, codes, question.categories, sets.subject[scans])
    }
    return [f"{question.target.name}: in some fold {'; '.join(sorted(short))}."] if short else []


def _protocol(recipe: Recipe) -> str:
    config = recipe.evaluate
    if config.checkpoint:
        return f"Fixed model, scored on people it never saw, in {config.folds} parts; baselines are trained on the other parts."
    spread = f", spread evenly over {config.stratify}" if config.stratify else ""
    several = (
        f" {config.repeats} models a fold, their scores averaged." if config.repeats > 1 else ""
    )
    return (
        f"Nested cross-validation: {config.folds} outer folds by person{spread} (seed {config.seed}); in each, "
        f"{recipe.data.validation:.0%} of the training people choose the epoch, and the held-out people are read once.{several} "
        "Baselines are tuned by inner cross-validation on the same training people."
    )


def _curves(runs: Sequence[FitResult]) -> tuple[dict[str, Any], ...]:
    """The first fold's epochs: one model's story rather than a mean of models that stopped
    elsewhere."""
    return tuple(runs[0].rows) if runs else ()


def _first_audit(runs: Sequence[FitResult]) -> tuple[dict[str, Any], ...]:
    """The first fold's audit; each fold has its own in its folder."""
    return tuple(asdict(row) for row in runs[0].audit) if runs else ()
