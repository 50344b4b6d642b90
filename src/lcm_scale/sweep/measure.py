"""One point of a sweep: trained on a nested subset of its fold's people, measured on the fold's
held-out people.

In: a `Sweep` and a `Point`. Out: the point's folder, an ordinary run folder with `point.json` (what
was measured) and `predictions.npz` (held-out scores, for ensembles) beside it. `point.json` is
written last: where it is, the point is done. A point that diverged is done too, without a loss: to
know that a rate is too high is what sweeps are for.

The validation people choose the epoch and are the same at every number of subjects; a baseline is
tuned by inner cross-validation on the very people that the model was trained on, and never sees the
validation people.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.config import DataConfig, Recipe
from lcm_scale.cost.time import step_flops
from lcm_scale.data.sets import ShardSets, in_drawn_order, own_vocabulary
from lcm_scale.data.stream import Edges
from lcm_scale.errors import Diverged, InputError
from lcm_scale.evaluation.baselines import check_baselines, fit_predict
from lcm_scale.evaluation.intervals import resampled
from lcm_scale.evaluation.labelled import keeping, with_label
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.prepare import refuse_overlap
from lcm_scale.evaluation.protocols import nested
from lcm_scale.evaluation.questions import Question, evaluated_set, questions_of
from lcm_scale.hardware.precision import working_dtype
from lcm_scale.inference.predictor import Predictor
from lcm_scale.lock import holding
from lcm_scale.model.flops import formulation_of, parameter_count
from lcm_scale.model.presets import LCMConfig
from lcm_scale.sweep.finished import FORMAT, is_finished, write_predictions, write_result
from lcm_scale.sweep.points import Point, Sweep
from lcm_scale.sweep.trunks import start_from_trunk
from lcm_scale.training.prepare import Opened, PreparedRun, open_recipe, prepare_split
from lcm_scale.training.run_log import LOCK, EpochRow, epochs_of
from lcm_scale.training.trained import trained
from lcm_scale.weights import checkpoints

BOOTSTRAP = 500
STREAM = 5  # of a drawn order of people
SMALLEST = 1e-7  # a probability of zero would cost an infinity


@dataclass(frozen=True)
class PreparedPoint:
    """A point, ready to be trained and measured.

    Attributes:
        opened: with the labels that the point may see.
        train, validation, test: scan numbers.
    """

    point: Point
    opened: Opened
    folder: Path
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    questions: tuple[Question, ...]

    @property
    def recipe(self) -> Recipe:
        return self.opened.recipe

    @property
    def sets(self) -> ShardSets:
        return self.opened.sets

    def run(self) -> PreparedRun:
        """The training run.  Raises: InputError as `prepare_split`."""
        return prepare_split(
            self.opened,
            self.recipe,
            self.folder,
            self.train,
            self.validation,
            self.point.name,
        )


def run_point(sweep: Sweep, point: Point) -> None:
    """Train and measure a point; nothing happens where it is finished.

    Raises: InputError; InUse where another process is at it; Stopped where a signal ended it with a
        good checkpoint.
    """
    folder = sweep.folder_of(point)
    if is_finished(folder):
        return
    with holding(folder / LOCK):
        if is_finished(folder):
            return
        prepared = prepare_point(sweep, point)
        sets, headline = prepared.sets, prepared.questions[0]
        predictor = Predictor(sets, prepared.opened.source, prepared.recipe)
        if point.is_baseline:
            facts, scores = _baseline(prepared, predictor)
        else:
            start_from_trunk(sweep, point)
            facts, scores = _model(prepared, predictor)
        about = {
            "format": FORMAT,
            "point": asdict(point),
            "title": prepared.recipe.title,
            "simulated": sets.simulated,
            "vocabulary": mark_of(sets, prepared.recipe.data),
            "people": len(np.unique(sets.subject[prepared.train])),
            "people_labelled": len(with_label(headline, sets, prepared.train)),
            "validation_labelled": len(with_label(headline, sets, prepared.validation)),
            "people_held_out": len(np.unique(sets.subject[prepared.test])),
            "scans": len(prepared.train),
        }
        truth = [question.truth(sets.labels[prepared.test]) for question in prepared.questions]
        names = [question.target.name for question in prepared.questions]
        if scores:
            answers = dict(zip(names, zip(scores, truth, strict=True), strict=True))
            write_predictions(folder, prepared.test, sets.subject[prepared.test], answers)
        write_result(folder, {**about, **facts})
        chosen = folder / "checkpoints" / checkpoints.BEST
        if chosen.is_file() and not sweep.recipe.keep_checkpoints:
            for old in (folder / "checkpoints").glob("step-*.ckpt"):
                old.unlink()  # optimiser state is of no more use


def prepare_point(sweep: Sweep, point: Point, source: Edges | None = None) -> PreparedPoint:
    """The people of a point. Subsets are nested: of one fold and draw, the smaller lies in the
    larger, and the fewer labelled people within the more.

    Args:
        source: the same data's edges where they are open already.
    Raises: InputError where the fold has fewer training people than the point asks for, or as
        `open_recipe`.
    """
    recipe = sweep.recipe_of(point)
    opened = open_recipe(recipe, source)
    sets = opened.sets
    scans = sets.scans_of([evaluated_set(recipe, sets)])
    questions = tuple(questions_of(recipe, sets))
    if point.is_baseline:
        check_baselines([point.size], sets.kinds_of(scans), "baselines")
    fold = nested.folds_of(recipe, sets, scans, questions)[point.fold - 1]
    people = np.unique(sets.subject[scans[fold.train]])
    if point.subjects > len(people):
        raise InputError(
            f"{point.name}: asks for {point.subjects} people, fold {point.fold} has {len(people)} "
            "to train on; use fewer subjects, a smaller data.validation or more folds"
        )
    chosen = in_drawn_order(sets, people, point.draw, STREAM)[: point.subjects or None]
    train = scans[fold.train][np.isin(sets.subject[scans[fold.train]], chosen)]
    if point.label_share < 1:
        labels = sets.labels.copy()
        # Also of those who choose the epoch: they would see more labels than the point may.
        for part in (train, scans[fold.validation]):
            hidden = _without_label(sets, part, questions[0], point)
            labels[hidden, questions[0].column] = np.nan
        opened = replace(opened, sets=replace(sets, labels=labels))
    test = scans[fold.test]
    refuse_overlap(opened.start, sets, test)
    folder = sweep.folder_of(point)
    return PreparedPoint(point, opened, folder, train, scans[fold.validation], test, questions)


def _without_label(
    sets: ShardSets, scans: np.ndarray, headline: Question, point: Point
) -> np.ndarray:
    """Of these scans those whose person does not keep the headline's label."""
    people = in_drawn_order(sets, np.unique(sets.subject[scans]), point.draw, STREAM)
    kept = keeping(headline, sets, scans, people, point.label_share)
    return scans[~np.isin(sets.subject[scans], kept)]


def mark_of(sets: ShardSets, data: DataConfig) -> str:
    """By which points over different data or vocabularies are told apart: every target and category
    that the sets have by themselves, in their own order of regions. What a checkpoint adds to start
    from changes neither the held-out people nor what is asked of them, so that pretrained points
    and those from scratch are of one mark."""
    vocabulary = own_vocabulary(data, sets.manifests).to_json()
    facts = [vocabulary, sets.fingerprints, sets.manifests[0].atlas.checksum]
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
    prepared: PreparedPoint, predictor: Predictor
) -> tuple[dict[str, Any], list[np.ndarray]]:
    run = prepared.run()
    try:
        result = trained(run)
    except Diverged as error:
        return _diverged(prepared, run, error), []
    asked = [question.asked for question in prepared.questions]
    scores = predictor.answers(checkpoints.load(result.checkpoint), prepared.test, asked)
    last = checkpoints.newest(result.folder / "checkpoints")
    assert last is not None
    last_scores = scores
    if last != result.checkpoint:
        last_scores = predictor.answers(checkpoints.load(last), prepared.test, asked)
    validated = (row for row in result.rows if row.get("val_loss") is not None)
    best = min(validated, key=lambda row: row["val_loss"], default=None)
    facts = {
        **_run_facts(prepared, run, result.rows),
        "chosen_epoch": None if best is None else best["epoch"] + 1,
        "steps": result.steps,
        **_measured(prepared, scores),
    }
    facts["last_loss"] = _total(prepared, last_scores)[0]
    return facts, scores


def _run_facts(
    prepared: PreparedPoint, run: PreparedRun, rows: Sequence[EpochRow]
) -> dict[str, Any]:
    """The model, what it ran as, and what its epochs cost."""
    model = prepared.opened.model
    device = "cuda" if run.hardware.accelerator == "gpu" else "cpu"
    dtype = working_dtype(run.hardware.precision)
    batch = min(prepared.recipe.trainer.global_batch, len(prepared.train))
    epoch_flops = float(step_flops(model, batch, device, dtype)) * len(prepared.train) / batch
    return {
        "kind": "model",
        "parameters": parameter_count(model),
        "parameters_body": body_parameters(model),
        "width": model.width,
        "layers": model.layers,
        "tokens": model.n_tokens,
        "formulation": formulation_of(model, model.n_tokens, batch, device, dtype),
        "precision": run.hardware.precision,
        "epochs": len(rows),
        "flops": epoch_flops * len(rows),
        "seconds": round(sum(row.get("seconds", 0.0) for row in rows), 2),
        "train_loss": rows[-1]["train_loss"] if rows else None,
    }


def _diverged(prepared: PreparedPoint, run: PreparedRun, error: Diverged) -> dict[str, Any]:
    """What is known of a run whose loss became no number; its held-out people are not asked."""
    log = run.folder / "log.jsonl"
    return {
        **_run_facts(prepared, run, epochs_of(log) if log.is_file() else []),
        "chosen_epoch": None,
        "steps": error.step,
        "loss": None,
        "losses": {},
        "weights": weights_of(prepared.recipe, prepared.questions),
        "chance": _total(prepared, _base_rates(prepared))[0],
        "metrics": [],
        "last_loss": None,
        "diverged": str(error),
    }


def _baseline(
    prepared: PreparedPoint, predictor: Predictor
) -> tuple[dict[str, Any], list[np.ndarray]]:
    began = time.monotonic()
    sets, point = prepared.sets, prepared.point
    train, test = predictor.edges(prepared.train), predictor.edges(prepared.test)
    scores = []
    for question in prepared.questions:
        truth = question.truth(sets.labels[prepared.train])
        known = np.isfinite(truth)
        try:
            if not known.any():
                raise ValueError("nothing to learn from")
            answer = fit_predict(
                point.size,
                train[known],
                truth[known],
                sets.subject[prepared.train][known],
                test,
                question.kind,
                len(question.categories),
                prepared.recipe.evaluate.seed,
                sets.kinds_of(prepared.train),
                log=question.target.log,
            )
        except ValueError as error:
            raise InputError(
                f"{point.name}: {int(known.sum())} scans with a known {question.target.name} are "
                f"too few to tune a baseline on ({error}); use more subjects, or baselines=[]"
            ) from error
        scores.append(answer)
    facts = {
        "kind": "baseline",
        "seconds": round(time.monotonic() - began, 2),
        **_measured(prepared, scores),
    }
    return facts, scores


def _measured(prepared: PreparedPoint, scores: list[np.ndarray]) -> dict[str, Any]:
    loss, losses = _total(prepared, scores)
    chance, _ = _total(prepared, _base_rates(prepared))
    metrics = []
    finite = all(np.isfinite(score).all() for score in scores)
    for question, score in zip(prepared.questions, scores, strict=True) if finite else ():
        predictions = predictions_of(prepared, question, score)
        for m in resampled(predictions, BOOTSTRAP, prepared.recipe.evaluate.seed).metrics():
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
        "weights": weights_of(prepared.recipe, prepared.questions),
        "chance": chance,
        "metrics": metrics,
    }


def predictions_of(prepared: PreparedPoint, question: Question, scores: np.ndarray) -> Predictions:
    """Held-out predictions of the scans whose answer is known."""
    truth = question.truth(prepared.sets.labels[prepared.test])
    known = np.isfinite(truth)
    scans = prepared.test[known]
    return Predictions(
        model=prepared.point.name,
        target=question.target.name,
        kind=question.kind,
        categories=question.categories,
        truth=truth[known].astype(np.int64) if question.kind == "class" else truth[known],
        scores=scores[known],
        subject=prepared.sets.subject[scans],
        fold=np.full(len(scans), prepared.point.fold),
        scan=scans,
    )


def _total(prepared: PreparedPoint, scores: list[np.ndarray]) -> tuple[float, dict[str, float]]:
    labels = prepared.sets.labels[prepared.test]
    answers = {
        question.target.name: (score, question.truth(labels))
        for question, score in zip(prepared.questions, scores, strict=True)
    }
    return total_loss(answers, weights_of(prepared.recipe, prepared.questions))


def weights_of(recipe: Recipe, questions: Sequence[Question]) -> dict[str, float]:
    """Those of training."""
    return {
        q.target.name: recipe.objective.weight(q.target.name, q.target.is_class) for q in questions
    }


def _base_rates(prepared: PreparedPoint) -> list[np.ndarray]:
    """What the class frequencies, or the mean, of the training scans alone would say."""
    out = []
    for question in prepared.questions:
        truth = question.truth(prepared.sets.labels[prepared.train])
        truth = truth[np.isfinite(truth)]
        if question.kind == "scalar":
            out.append(np.full(len(prepared.test), truth.mean()))
        else:
            counts = np.bincount(truth.astype(np.int64), minlength=len(question.categories)) + 0.5
            out.append(np.tile(counts / counts.sum(), (len(prepared.test), 1)))
    return out
