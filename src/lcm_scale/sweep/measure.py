"""One point of a sweep: trained on a nested subset of its fold's people, measured on the fold's
held-out people.

In: a `Sweep` and a `Point`. Out: the point's folder, an ordinary run folder with `point.json` (what
was measured) and `predictions.npz` (held-out scores, for ensembles) beside it. `point.json` is
written last: where it is, the point is done.

The validation people choose the epoch and are the same at every number of subjects; a baseline is
tuned by inner cross-validation on the very people that the model was trained on, and never sees the
validation people.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lcm_scale.config import Recipe
from lcm_scale.cost.time import step_flops
from lcm_scale.data.order import mix
from lcm_scale.data.sets import ShardSets
from lcm_scale.data.stream import open_edges
from lcm_scale.errors import InputError
from lcm_scale.evaluation.baselines import fit_predict
from lcm_scale.evaluation.crossvalidate import (
    Question,
    evaluated_set,
    folds_of,
    questions_of,
    refuse_overlap,
)
from lcm_scale.evaluation.metrics import Predictions, evaluate_predictions
from lcm_scale.files import write_atomic
from lcm_scale.hardware.precision import precision_of, working_dtype
from lcm_scale.inference.predictor import Predictor
from lcm_scale.model.flops import formulation_of, parameter_count
from lcm_scale.model.presets import LCMConfig, resolve
from lcm_scale.sweep.points import Point, Sweep
from lcm_scale.sweep.trunks import start_from_trunk
from lcm_scale.training.fit import FitResult, fit, prepare
from lcm_scale.weights import checkpoints
from lcm_scale.weights.checkpoints import Checkpoint

FORMAT = "lcm-scale-point/1"
RESULT, PREDICTIONS = "point.json", "predictions.npz"
BOOTSTRAP = 500
SMALLEST = 1e-7  # a probability of zero would cost an infinity


class Busy(Exception):
    """Another process is at this point."""


@dataclass(frozen=True)
class Split:
    """Scan numbers of a point: trained on, choosing the epoch, held out; and the sets with the
    labels that it may see."""

    sets: ShardSets
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    questions: tuple[Question, ...]


def is_finished(folder: Path) -> bool:
    return (folder / RESULT).is_file()


def run_point(sweep: Sweep, point: Point) -> None:
    """Train and measure a point; nothing happens where it is finished.

    Raises: InputError; Busy where another process is at it; Stopped where a signal ended it with a
        good checkpoint.
    """
    folder = sweep.folder_of(point)
    if is_finished(folder):
        return
    with _alone(folder):
        if is_finished(folder):
            return
        recipe = sweep.recipe_of(point)
        sets, start = prepare(recipe)
        split = split_of(sets, start, recipe, point)
        refuse_overlap(start, sets, split.test)
        predictor = Predictor(sets, open_edges(sets, recipe.data.resident_gb), recipe)
        if point.is_baseline:
            facts, scores = _baseline(point, recipe, predictor, split)
        else:
            start_from_trunk(sweep, point)
            result = fit(
                recipe,
                split.sets,
                predictor.source,
                split.train,
                split.validation,
                folder,
                start,
                point.name,
            )
            facts, scores = _model(point, recipe, predictor, split, result)
        known = {
            "format": FORMAT,
            "point": asdict(point),
            "title": recipe.title,
            "simulated": sets.simulated,
            "vocabulary": mark_of(sets),
            "people": len(np.unique(sets.subject[split.train])),
            "people_held_out": len(np.unique(sets.subject[split.test])),
            "scans": len(split.train),
            **facts,
        }
        _write(folder, known, scores, split)
        if (
            not point.is_baseline
            and not sweep.recipe.keep_checkpoints
            and (folder / "checkpoints" / "best.ckpt").is_file()
        ):
            for old in (folder / "checkpoints").glob("step-*.ckpt"):
                old.unlink()  # optimiser state is of no more use


def split_of(sets: ShardSets, start: Checkpoint | None, recipe: Recipe, point: Point) -> Split:
    """The people of a point. Subsets are nested: of one fold and draw, the smaller lies in the
    larger.

    Raises: InputError where the fold has fewer training people than the point asks for.
    """
    scans = sets.scans_of([evaluated_set(recipe, sets)])
    questions = tuple(questions_of(recipe, sets, start, None))
    fold = folds_of(recipe, sets, scans, questions)[point.fold - 1]
    people = np.unique(sets.subject[scans[fold.train]])
    if point.subjects > len(people):
        raise InputError(
            f"{point.name}: asks for {point.subjects} people, fold {point.fold} has {len(people)} to train on; "
            "use fewer subjects, a smaller data.validation or more folds"
        )
    hashes = np.array([int(sets.subjects[p][:15], 16) for p in people], dtype=np.int64)
    ordered = people[np.argsort(mix(point.draw, 5, hashes), kind="stable")]
    chosen = ordered[: point.subjects or None]
    train = scans[fold.train][np.isin(sets.subject[scans[fold.train]], chosen)]
    if point.label_share < 1:
        column = questions[0].column
        labels = sets.labels.copy()
        unlabelled = ordered[max(1, round(point.label_share * len(chosen))) :]
        labels[train[np.isin(sets.subject[train], unlabelled)], column] = np.nan
        sets = replace(sets, labels=labels)
    return Split(sets, train, scans[fold.validation], scans[fold.test], questions)


def mark_of(sets: ShardSets) -> str:
    """By which points over different data or vocabularies are told apart."""
    facts = [sets.vocabulary.to_json(), sets.fingerprints, sets.atlas.checksum]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def body_parameters(model: LCMConfig) -> int:
    """Parameters without embeddings: the decoder layers alone."""
    return parameter_count(model) - parameter_count(replace(model, layers=0))


def loss_of(scores: np.ndarray, truth: np.ndarray) -> float:
    """Held-out loss over the scans with a known answer: cross-entropy over the set's own answers
    (scores (n, C)), or the squared error over the held-out variance, where 1 is always guessing the
    mean (scores (n,))."""
    known = np.isfinite(truth)
    if scores.ndim == 1:
        return float(np.mean((scores[known] - truth[known]) ** 2) / np.var(truth[known]))
    right = scores[known, truth[known].astype(np.int64)]
    return float(-np.log(np.maximum(right, SMALLEST)).mean())


def total_loss(
    answers: Mapping[str, tuple[np.ndarray, np.ndarray]], weights: Mapping[str, float]
) -> tuple[float, dict[str, float]]:
    """The weighted sum of the targets' losses, and each.  Args: answers: target -> (scores,
    truth)."""
    losses = {name: loss_of(scores, truth) for name, (scores, truth) in answers.items()}
    return sum(weights[name] * loss for name, loss in losses.items()), losses


# -- what is measured ------------------------------------------------------------------------------


def _model(
    point: Point, recipe: Recipe, predictor: Predictor, split: Split, result: FitResult
) -> tuple[dict[str, Any], list[np.ndarray]]:
    asked = [(q.target.name, q.codes) for q in split.questions]
    chosen = checkpoints.load(result.checkpoint)
    scores = predictor.answers(chosen, split.test, asked)
    last = checkpoints.newest(result.folder / "checkpoints")
    assert last is not None
    last_scores = (
        scores
        if last == result.checkpoint
        else predictor.answers(checkpoints.load(last), split.test, asked)
    )
    best = min(
        (r for r in result.rows if r.get("val_loss") is not None),
        key=lambda r: r["val_loss"],
        default=None,
    )
    model = resolve(
        recipe.model,
        split.sets.atlas.n_regions,
        tuple(t.n_tokens for t in split.sets.vocabulary.targets),
    )
    device = "cuda" if recipe.trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    precision = precision_of(recipe.trainer.precision, device, model.width)
    batch = min(recipe.trainer.global_batch, len(split.train))
    epochs = len(result.rows)
    facts = {
        "kind": "model",
        "parameters": parameter_count(model),
        "parameters_body": body_parameters(model),
        "width": model.width,
        "layers": model.layers,
        "tokens": model.n_tokens,
        "formulation": formulation_of(
            model, model.n_tokens, batch, device, working_dtype(precision)
        ),
        "precision": precision,
        "epochs": epochs,
        "chosen_epoch": None if best is None else best["epoch"] + 1,
        "steps": result.steps,
        "flops": float(step_flops(model, batch, device, working_dtype(precision)))
        * len(split.train)
        / batch
        * epochs,
        "seconds": round(sum(r["seconds"] for r in result.rows), 2),
        "train_loss": result.rows[-1]["train_loss"] if result.rows else None,
        **_measured(point, recipe, split, scores),
    }
    facts["last_loss"] = _total(recipe, split, last_scores)[0]
    return facts, scores


def _baseline(
    point: Point, recipe: Recipe, predictor: Predictor, split: Split
) -> tuple[dict[str, Any], list[np.ndarray]]:
    began = time.monotonic()
    train, test = predictor.edges(split.train), predictor.edges(split.test)
    scores = []
    for question in split.questions:
        truth = question.truth(split.sets.labels[split.train])
        known = np.isfinite(truth)
        try:
            answer = fit_predict(
                point.size,
                train[known],
                truth[known],
                split.sets.subject[split.train][known],
                test,
                question.kind,
                len(question.categories),
                recipe.evaluate.seed,
            )
        except ValueError as error:
            raise InputError(
                f"{point.name}: {int(known.sum())} scans with a known {question.target.name} are too few to tune a baseline "
                f"on ({error}); use more subjects, or baselines=[]"
            ) from error
        scores.append(answer)
    facts = {
        "kind": "baseline",
        "seconds": round(time.monotonic() - began, 2),
        **_measured(point, recipe, split, scores),
    }
    return facts, scores


def _measured(
    point: Point, recipe: Recipe, split: Split, scores: list[np.ndarray]
) -> dict[str, Any]:
    loss, losses = _total(recipe, split, scores)
    chance, _ = _total(recipe, split, _base_rates(split))
    metrics = []
    finite = all(np.isfinite(s).all() for s in scores)
    for question, score in zip(split.questions, scores, strict=True) if finite else ():
        p = predictions_of(question, split, score, point)
        for m in evaluate_predictions(p, BOOTSTRAP, recipe.evaluate.seed):
            metrics.append(
                {
                    "target": question.target.name,
                    "metric": m.name,
                    "value": m.value,
                    "low": m.low,
                    "high": m.high,
                }
            )
    return {
        "loss": loss,
        "losses": losses,
        "weights": weights_of(recipe, split.questions),
        "chance": chance,
        "metrics": metrics,
    }


def predictions_of(
    question: Question, split: Split, scores: np.ndarray, point: Point
) -> Predictions:
    """Held-out predictions of the scans whose answer is known."""
    truth = question.truth(split.sets.labels[split.test])
    known = np.isfinite(truth)
    scans = split.test[known]
    return Predictions(
        model=point.name,
        target=question.target.name,
        kind=question.kind,
        categories=question.categories,
        truth=truth[known].astype(np.int64) if question.kind == "class" else truth[known],
        scores=scores[known],
        subject=split.sets.subject[scans],
        fold=np.full(len(scans), point.fold),
        scan=scans,
    )


def _total(
    recipe: Recipe, split: Split, scores: list[np.ndarray]
) -> tuple[float, dict[str, float]]:
    answers = {
        q.target.name: (s, q.truth(split.sets.labels[split.test]))
        for q, s in zip(split.questions, scores, strict=True)
    }
    return total_loss(answers, weights_of(recipe, split.questions))


def weights_of(recipe: Recipe, questions: Sequence[Question]) -> dict[str, float]:
    """Those of training."""
    return {
        q.target.name: recipe.objective.weight(q.target.name, q.target.is_class) for q in questions
    }


def _base_rates(split: Split) -> list[np.ndarray]:
    """What the class frequencies, or the mean, of the training scans alone would say."""
    out = []
    for q in split.questions:
        truth = q.truth(split.sets.labels[split.train])
        truth = truth[np.isfinite(truth)]
        if q.kind == "scalar":
            out.append(np.full(len(split.test), truth.mean()))
        else:
            counts = np.bincount(truth.astype(np.int64), minlength=len(q.categories)) + 0.5
            out.append(np.tile(counts / counts.sum(), (len(split.test), 1)))
    return out


# -- files -----------------------------------------------------------------------------------------


def _write(folder: Path, facts: dict[str, Any], scores: list[np.ndarray], split: Split) -> None:
    held = io.BytesIO()
    arrays: dict[str, Any] = {"scan": split.test, "subject": split.sets.subject[split.test]}
    for question, score in zip(split.questions, scores, strict=True):
        arrays[f"scores: {question.target.name}"] = score.astype(np.float32)
        arrays[f"truth: {question.target.name}"] = question.truth(split.sets.labels[split.test])
    np.savez_compressed(held, **arrays)
    write_atomic(folder / PREDICTIONS, held.getvalue())
    write_atomic(folder / RESULT, json.dumps(facts, indent=1).encode())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process a point, also over the hosts of a cluster; the lock goes with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(folder.name) from error
        yield
