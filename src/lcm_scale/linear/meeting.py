"""Who meets whom in people memory: training scans as vectors about a reference, and as inner
products with the scans that they are compared with.

Shapes: n training scans, b of them in the bank, F = E + R tangent features, K classes of a target,
or 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lcm_scale.linear.collapse import KeptPeople
from lcm_scale.linear.context import Context
from lcm_scale.linear.kernels import Bank
from lcm_scale.linear.landmarks import AnyBank, LandmarkBank, blocks, draw_landmarks
from lcm_scale.linear.prior import Prior, PriorTarget, prior_answers
from lcm_scale.linear.tangent import TangentSpace, positive_definite


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
class Question:
    """A target as it is fitted.

    Attributes:
        labelled: its n scans.   wanted: (n, K) values, or -1 / +1 a class.
        codes: (n,) of classes, None of a scalar.
        classes, n_classes: as of `Remembered`.   log: learnt on the log scale.
        start: what a memory before knows of it.
    """

    labelled: np.ndarray
    wanted: np.ndarray
    codes: np.ndarray | None
    classes: tuple[int, ...]
    n_classes: int
    log: bool
    start: PriorTarget | None

    @classmethod
    def of(cls, asked: Asked, labelled: np.ndarray, start: PriorTarget | None) -> Question:
        truth = asked.truth[labelled]
        if asked.n_classes:
            present, codes = np.unique(truth.astype(np.int64), return_inverse=True)
            classes = tuple(present.tolist())
            wanted = np.where(np.arange(len(present)) == codes[:, None], 1.0, -1.0)
            start = start and start.of(classes)
            return cls(labelled, wanted, codes, classes, asked.n_classes, False, start)
        start = start and start.of(())
        if start and (asked.log > start.log or start.log > (truth > 0).all()):
            start = None  # the two are not on one scale
        log = asked.log if start is None else start.log
        wanted = truth[:, None].astype(np.float64)
        return cls(labelled, wanted, None, (), 0, log, start)


def questions_of(
    asked: Mapping[str, Asked], subject: np.ndarray, prior: Prior | None = None
) -> dict[str, Question]:
    """Of those with two classes, or two values, of two people.  Args: subject: (n,)."""
    questions = {}
    for name, each in asked.items():
        labelled = np.flatnonzero(np.isfinite(each.truth))
        if len(np.unique(each.truth[labelled])) > 1 and len(np.unique(subject[labelled])) > 1:
            start = None if prior is None else prior.targets.get(name)
            questions[name] = Question.of(each, labelled, start)
    return questions


@dataclass(frozen=True)
class Met:
    """Scans in a tangent space.

    Attributes:
        centre: (F,).   vectors: (b, F) about it, of all scans or the landmarks.
        before: what a memory before answers about a target's labelled scans, (n, K).
    """

    space: TangentSpace
    centre: np.ndarray
    vectors: np.ndarray
    bank: AnyBank
    before: Mapping[str, np.ndarray]

    def people(self, subject: np.ndarray, known: Context) -> KeptPeople:
        """Those of the vectors.  Args: subject, known: of all scans."""
        at = self.bank.at if isinstance(self.bank, LandmarkBank) else np.arange(len(subject))
        whose = subject[at]
        gram = np.where(whose[:, None] == whose, 0.0, self.vectors @ self.vectors.T)
        return KeptPeople(self.vectors, gram, known.of(at), len(np.unique(whose)))


def meet(
    edges: np.ndarray,
    subject: np.ndarray,
    known: Context,
    questions: Mapping[str, Question],
    prior: Prior | None,
    most: int | None,
    seed: int,
) -> Met:
    """Training scans (n, E) in the space that they make.

    Args:
        subject: (n,) people.   known: context of the n, fitted.   prior: a memory to start from.
        most: scans that may be landmarks; None: all meet all.   seed: of the landmarks.
    """
    if most is None:
        return all_meet(edges, subject, known, questions, prior)
    return landmarks_meet(edges, subject, known, questions, prior, most, seed)


def all_meet(
    edges: np.ndarray,
    subject: np.ndarray,
    known: Context,
    questions: Mapping[str, Question],
    prior: Prior | None,
) -> Met:
    """All scans with all."""
    matrices = positive_definite(edges)
    space = TangentSpace.about(matrices)
    vectors = space.vectors_of(matrices)
    centre = vectors.mean(0)
    vectors -= centre
    before = {}
    if prior is not None:
        theirs = prior.vectors_of(matrices)
        for name, each in questions.items():
            if each.start:
                before[name] = prior_answers(each.start, theirs[:, each.labelled])
    return Met(space, centre, vectors, Bank(vectors @ vectors.T, subject, known), before)


def landmarks_meet(
    edges: np.ndarray,
    subject: np.ndarray,
    known: Context,
    questions: Mapping[str, Question],
    prior: Prior | None,
    most: int,
    seed: int,
) -> Met:
    """The space is about the landmarks, which stand for all; others are in it for a moment."""
    at = draw_landmarks(subject, [each.labelled for each in questions.values()], most, seed)
    matrices = positive_definite(edges[at])
    space = TangentSpace.about(matrices)
    vectors = space.vectors_of(matrices)
    centre = vectors.mean(0)
    vectors -= centre
    gram, squares = np.empty((len(edges), len(at))), np.empty(len(edges))
    starts = {name: each.start for name, each in questions.items() if each.start}
    before = {
        name: np.zeros((len(edges), start.weights.shape[-1])) for name, start in starts.items()
    }
    for scans in blocks(np.arange(len(edges))):
        matrices = positive_definite(edges[scans])
        own = space.vectors_of(matrices) - centre
        gram[scans], squares[scans] = own @ vectors.T, (own**2).sum(1)
        if prior is not None:
            theirs = prior.vectors_of(matrices)
            for name, start in starts.items():
                before[name][scans] = prior_answers(start, theirs)
    before = {name: found[questions[name].labelled] for name, found in before.items()}
    bank = LandmarkBank(gram, squares, at, subject, known)
    return Met(space, centre, vectors, bank, before)
