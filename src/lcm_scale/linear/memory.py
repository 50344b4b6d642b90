"""People memory as a part of a model: one tangent space, and a collapsed answer for every target.

Fitted in closed form on a run's training scans, all of which are its bank, labelled or not. What is
kept is a reference, a centre and weight vectors: no person is stored, but by the radial form. In
checkpoints `model.people` holds the arrays.
Shapes: n training scans, m others, E edges, R regions, F = E + R tangent features, K classes of a
target, or 1, D added features of the context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax, ndtr, stdtrit

from lcm_scale.linear.calibration import Calibration, calibrate
from lcm_scale.linear.collapse import KeptPeople, KeptWeights, Weights, collapse
from lcm_scale.linear.context import Context, KnownColumn
from lcm_scale.linear.landmarks import AnyBank
from lcm_scale.linear.meeting import Asked, Question, meet, questions_of
from lcm_scale.linear.people import CLEAR, CLEAR_OF_FEW, FEW, Choice, choose
from lcm_scale.linear.prior import Prior, PriorTarget, prior_answers
from lcm_scale.linear.tangent import TangentSpace, positive_definite

GATES = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
ABSENT = -30.0  # logit of a class that no training scan has


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

    weights: Weights | KeptWeights
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
        prior: the memory that it started from.   kept: the people of the radial form, None of the
            linear one.
    """

    whitening: np.ndarray
    centre: np.ndarray
    targets: Mapping[str, Remembered]
    context: tuple[KnownColumn, ...] = ()
    prior: Prior | None = None
    kept: KeptPeople | None = None

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


def fit_memory(
    edges: np.ndarray,
    subject: np.ndarray,
    asked: Mapping[str, Asked],
    seed: int,
    context: Context | None = None,
    prior: Prior | None = None,
    most: int | None = None,
    radial: bool = False,
) -> PeopleMemory:
    """Fit a memory on training scans.

    Args:
        edges: (n, E).   subject: (n,) people, who never stand on both sides of an inner fold.
        asked: by target; one without two classes, or two values, is left out.
        seed: of the inner folds, and of the landmarks.
        context: what is known of the n when they are asked about. A target's own column is not told
            to it.
        prior: a memory to start from, of other people.
        most: scans that may be landmarks (`linear.landmarks`); None: all meet all.
        radial: in the radial form.
    """
    known = (context or Context.nothing(len(edges))).fitted(subject)
    questions = questions_of(asked, subject, prior)
    met = meet(edges, subject, known, questions, prior, most, seed)
    people = met.people(subject, known) if radial else None
    if people is not None:
        met = replace(met, bank=replace(met.bank, radial=True))
    targets = fit_all(met.bank, met.vectors, questions, seed, known, met.before, people)
    used = prior if any(target.prior for target in targets.values()) else None
    return PeopleMemory(met.space.whitening, met.centre, targets, known.columns, used, people)


def fit_all(
    bank: AnyBank,
    vectors: np.ndarray,
    questions: Mapping[str, Question],
    seed: int,
    known: Context,
    before: Mapping[str, np.ndarray],
    people: KeptPeople | None,
) -> dict[str, Remembered]:
    """Fit each target once its scans are vectors, whatever these are of.

    Args:
        bank: of all scans.   vectors: (b, F) about their mean, of all scans or the landmarks.
        seed: of the inner folds.   known: context of all scans, fitted.
        before: of a target that a memory before answers, (n, K) of its labelled scans.
        people: of the radial form.
    """
    targets = {}
    for name, question in questions.items():
        untold = replace(bank, context=known.without(name))
        fitted = _fit(untold, vectors, question, seed, before.get(name), people)
        targets[name] = replace(fitted, weights=_placed(fitted.weights, known, name))
    return targets


def _placed(weights: Weights | KeptWeights, known: Context, name: str) -> Weights | KeptWeights:
    """With weights of 0 for the features of a column that was left out."""
    rows = np.repeat([c.name != name for c in known.columns], [c.width for c in known.columns])
    if rows.all():
        return weights

    def place(own: np.ndarray) -> np.ndarray:
        whole = np.zeros((len(rows), *own.shape[1:]))
        whole[rows] = own
        return whole

    if isinstance(weights, KeptWeights):
        return replace(weights, added=place(weights.added))
    own = None if weights.own is None else place(weights.own)
    return replace(weights, added=place(weights.added), own=own)


def _fit(
    bank: AnyBank,
    vectors: np.ndarray,
    question: Question,
    seed: int,
    prior: np.ndarray | None,
    people: KeptPeople | None,
) -> Remembered:
    """Args: prior: (n, K) what a memory before answers.   people: of the radial form."""
    labelled, wanted, codes = question.labelled, question.wanted, question.codes
    told = bool(bank.context.columns)
    choice = choose(bank, labelled, wanted, codes, seed, question.log, told, prior)
    nothing = np.zeros(0)
    curve = Calibration(nothing, nothing, 0.0)
    if codes is not None:
        curve = calibrate(choice.held_out, codes)
    start = question.start
    return Remembered(
        weights=collapse(bank, vectors, labelled, wanted, choice, prior, people),
        classes=question.classes,
        n_classes=question.n_classes,
        slopes=curve.slopes,
        offsets=curve.intercepts,
        choice=choice,
        prior=start and start.times(choice.share),
    )


def scores_of(
    target: Remembered,
    vectors: np.ndarray,
    context: Context,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """(m, K) logits, or (m, 1) values in its unit, of vectors (m, F) that are centred as the
    training's.  Args: before: (P, m, F) their vectors about the prior's references."""
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
    """The gate of `GATES` whose answers fit validation scans best, 0 unless another is clearly
    better, by the rule for a beta above 0. Of few people its standard errors are Student's, since
    one that three or fifteen people give is itself a guess.

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

    n = len(counts)
    if n < 2:
        return 0.0
    clear = stdtrit(n - 1, ndtr(CLEAR if n >= FEW else CLEAR_OF_FEW))
    plain, best, gain = losses(0.0), 0.0, 0.0
    for gate in GATES:
        saved = plain - losses(gate)
        error = saved.std(ddof=1) / np.sqrt(n)
        if saved.mean() > max(gain, clear * error):
            best, gain = gate, float(saved.mean())
    return best
