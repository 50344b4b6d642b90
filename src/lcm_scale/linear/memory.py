"""People memory as a part of a model: one tangent space, and a collapsed answer for every target.

Fitted in closed form on a run's training scans, all of which are its bank, labelled or not. What is
kept is a reference, a centre and weight vectors: no person is stored. In checkpoints `model.people`
holds the arrays.
Shapes: n training scans, m others, E edges, R regions, F = E + R tangent features, K classes of a
target, or 1, D added features of the context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax

from lcm_scale.linear.calibration import Calibration, calibrate
from lcm_scale.linear.context import Context, KnownColumn
from lcm_scale.linear.people import Bank, Choice, Weights, choose, collapse
from lcm_scale.linear.prior import Prior, PriorTarget, prior_answers
from lcm_scale.linear.tangent import TangentSpace, positive_definite

GATES = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
ABSENT = -30.0  # logit of a class that no training scan has
MOST_SCANS = 4000  # beyond it products of people with people cost minutes and gigabytes


@dataclass(frozen=True)
class Asked:
    """What is known of a target.

    Attributes:
        truth: (n,) class codes or values, NaN where missing.
        n_classes: width of its logits, 0 for a scalar.
        log: the scalar is learnt on its log scale; its values are in its own unit all the same.
    """

    truth: np.ndarray
    n_classes: int
    log: bool = False


@dataclass(frozen=True)
class Remembered:
    """A target's answer.

    Attributes:
        weights: of its k classes with a training scan, or 1; of the context's D features, of which
            those of the target itself count nothing.
        classes: codes of the k; empty for a scalar.   n_classes: K, 0 for a scalar.
        slopes, offsets: (k,) of the calibration; empty for a scalar.
        choice: what was tuned.
        prior: what its ridge stands on, times the share; None without one.
        gate: share of the decoder's answer, `combined` has the formula; 0: the memory answers
            alone.
    """

    weights: Weights
    classes: tuple[int, ...]
    n_classes: int
    slopes: np.ndarray
    offsets: np.ndarray
    choice: Choice
    prior: PriorTarget | None = None
    gate: float = 0.0


@dataclass(frozen=True)
class PeopleMemory:
    """A fitted memory.

    Attributes:
        whitening: (R, R), of the tangent space.   centre: (F,) mean tangent vector.
        targets: by name.   context: what it can be told of a scan.
        prior: the memory that it started from.
    """

    whitening: np.ndarray
    centre: np.ndarray
    targets: Mapping[str, Remembered]
    context: tuple[KnownColumn, ...] = ()
    prior: Prior | None = None

    def scores(self, edges: np.ndarray, values: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Of each target (m, K) logits, or (m, 1) values in its unit, from raw correlations
        (m, E).

        Args: values: float (m, J) of `context`, NaN where not known; None: nothing is.
        """
        if values is None:
            values = np.full((len(edges), len(self.context)), np.nan)
        matrices = positive_definite(edges)
        vectors = TangentSpace(self.whitening).vectors_of(matrices) - self.centre
        context = Context(self.context, values)
        before = None if self.prior is None else self.prior.vectors_of(matrices)
        return {
            name: scores_of(target, vectors, context, before)
            for name, target in self.targets.items()
        }

    def gated(self, gates: Mapping[str, float]) -> PeopleMemory:
        """The same with other gates."""
        targets = {n: replace(t, gate=gates.get(n, t.gate)) for n, t in self.targets.items()}
        return replace(self, targets=targets)


def within_reach(subject: np.ndarray, seed: int, most: int) -> np.ndarray:
    """Positions of the scans that a memory holds, ascending: all, or of as many people as `most`
    scans have room for, drawn by the seed.  Args: subject: (n,)."""
    if len(subject) <= most:
        return np.arange(len(subject))
    people, inverse, counts = np.unique(subject, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(people))
    kept = order[np.cumsum(counts[order]) <= most]
    return np.flatnonzero(np.isin(inverse, kept))


def fit_memory(
    edges: np.ndarray,
    subject: np.ndarray,
    asked: Mapping[str, Asked],
    seed: int,
    context: Context | None = None,
    prior: Prior | None = None,
) -> PeopleMemory:
    """Fit a memory on training scans.

    Args:
        edges: (n, E).   subject: (n,) people, who never stand on both sides of an inner fold.
        asked: by target; one without two classes, or two values, is left out.
        seed: of the inner folds.
        context: what is known of the n when they are asked about. A target's own column is not told
            to it.
        prior: a memory to start from, of other people.
    """
    known = (context or Context.nothing(len(edges))).fitted(subject)
    matrices = positive_definite(edges)
    space = TangentSpace.about(matrices)
    vectors = space.vectors_of(matrices)
    centre = vectors.mean(0)
    vectors -= centre
    before = None if prior is None else prior.vectors_of(matrices)
    targets = fit_targets(vectors, subject, asked, seed, known, prior, before)
    used = prior if any(target.prior for target in targets.values()) else None
    return PeopleMemory(space.whitening, centre, targets, known.columns, used)


def fit_targets(
    vectors: np.ndarray,
    subject: np.ndarray,
    asked: Mapping[str, Asked],
    seed: int,
    known: Context,
    prior: Prior | None = None,
    before: np.ndarray | None = None,
) -> dict[str, Remembered]:
    """What `fit_memory` fits once scans are vectors, whatever these are of.

    Args:
        vectors: (n, F), centred.   subject, asked, seed: as for `fit_memory`.
        known: context of the n, fitted.
        before: (P, n, F) their vectors about the prior's references.
    """
    bank = Bank(vectors @ vectors.T, subject, known)
    targets = {}
    for name, each in asked.items():
        labelled = np.flatnonzero(np.isfinite(each.truth))
        if len(np.unique(each.truth[labelled])) > 1 and len(np.unique(subject[labelled])) > 1:
            untold = replace(bank, context=known.without(name))
            start = None if prior is None else prior.targets.get(name)
            fitted = _fit(untold, vectors, labelled, each, seed, start, before)
            weights = _placed(fitted.weights, known, name)
            targets[name] = replace(fitted, weights=weights)
    return targets


def _placed(weights: Weights, known: Context, name: str) -> Weights:
    """With weights of 0 for the features of a column that was left out."""
    rows = np.repeat([c.name != name for c in known.columns], [c.width for c in known.columns])
    if rows.all():
        return weights

    def place(own: np.ndarray) -> np.ndarray:
        whole = np.zeros((len(rows), *own.shape[1:]))
        whole[rows] = own
        return whole

    own = None if weights.own is None else place(weights.own)
    return replace(weights, added=place(weights.added), own=own)


def _fit(
    bank: Bank,
    vectors: np.ndarray,
    labelled: np.ndarray,
    asked: Asked,
    seed: int,
    start: PriorTarget | None,
    before: np.ndarray | None,
) -> Remembered:
    """Args: start: what a memory before knows of the target.   before: (P, b, F) its vectors."""
    truth = asked.truth[labelled]
    told = bool(bank.context.columns)
    classes: tuple[int, ...] = ()
    nothing = np.zeros(0)
    curve = Calibration(nothing, nothing, 0.0)
    if asked.n_classes:
        present, codes = np.unique(truth.astype(np.int64), return_inverse=True)
        classes = tuple(present.tolist())
        wanted = np.where(np.arange(len(present)) == codes[:, None], 1.0, -1.0)
        start = start and start.of(classes)
        prior = _answered(start, before, labelled)
        choice = choose(bank, labelled, wanted, codes, seed, context=told, prior=prior)
        curve = calibrate(choice.held_out, codes)
    else:
        wanted = truth[:, None].astype(np.float64)
        start = start and start.of(())
        if start and (asked.log > start.log or start.log > (truth > 0).all()):
            start = None  # the two are not on one scale
        prior = _answered(start, before, labelled)
        log = asked.log if start is None else start.log
        choice = choose(bank, labelled, wanted, None, seed, log, told, prior)
    return Remembered(
        weights=collapse(bank, vectors, labelled, wanted, choice, prior),
        classes=classes,
        n_classes=asked.n_classes,
        slopes=curve.slopes,
        offsets=curve.intercepts,
        choice=choice,
        prior=start and start.times(choice.share),
    )


def _answered(
    start: PriorTarget | None, before: np.ndarray | None, labelled: np.ndarray
) -> np.ndarray | None:
    if start is None or before is None:
        return None
    return prior_answers(start, before[:, labelled])


def scores_of(
    target: Remembered,
    vectors: np.ndarray,
    context: Context,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """(m, K) logits, or (m, 1) values in its unit, of vectors (m, F) that are centred as the
    training's.  Args: before: as for `fit_targets`, of the m."""
    offset: np.ndarray | float = 0.0
    if target.prior is not None and before is not None:
        offset = prior_answers(target.prior, before)
    found = target.weights.answers(vectors, context, offset)
    if not target.n_classes:
        return found
    logits = np.full((len(vectors), target.n_classes), ABSENT)
    logits[:, list(target.classes)] = found * target.slopes + target.offsets
    return logits


# -- the two parts together ------------------------------------------------------------------------


def combined(memory: np.ndarray, decoder: np.ndarray, gate: float, is_class: bool) -> np.ndarray:
    """One answer of two: logits add, the decoder's times the gate; of a scalar the mean of both
    values, the decoder's with the gate as its weight."""
    if is_class:
        return memory + gate * decoder
    return (1 - gate) * memory + gate * decoder


def fit_gate(
    memory: np.ndarray,
    decoder: np.ndarray,
    truth: np.ndarray,
    subject: np.ndarray,
    is_class: bool,
) -> float:
    """The gate of `GATES` whose answers fit validation scans best, 0 unless another is better by
    one standard error over people.

    Args:
        memory, decoder: (n, K) logits, or (n, 1) values, of scans that neither was fitted on.
        truth: (n,) codes or values, none missing.   subject: (n,).
    """
    people = np.unique(subject, return_inverse=True)[1]
    counts = np.bincount(people)

    def losses(gate: float) -> np.ndarray:
        answer = combined(memory, decoder, gate, is_class)
        if is_class:
            each = -log_softmax(answer, axis=1)[np.arange(len(truth)), truth.astype(np.int64)]
        else:
            each = (answer[:, 0] - truth) ** 2
        return np.bincount(people, each) / counts

    plain, best, gain = losses(0.0), 0.0, 0.0
    for gate in GATES:
        saved = plain - losses(gate)
        error = saved.std() / np.sqrt(len(saved))
        if saved.mean() > max(gain, error):
            best, gain = gate, float(saved.mean())
    return best
