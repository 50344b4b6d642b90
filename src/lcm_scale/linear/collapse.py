"""A fitted people memory as weights.

Being linear in the tangent vector, the answer is one weight vector a target and one a category of
the context: no person is stored. The radial form is not linear: it keeps the vectors of the bank's
people and a coefficient each.

Shapes: b scans of the bank, n labelled, m others, F = E + R tangent features, D added features of
the context, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.linear.context import SHARED, Context, shared
from lcm_scale.linear.kernels import radial
from lcm_scale.linear.landmarks import AnyBank
from lcm_scale.linear.people import Choice


@dataclass(frozen=True)
class Weights:
    """A fitted target, collapsed: ``phi @ common``, and of each category that a scan has
    ``SHARED * phi @ own[category]``, and ``features @ added``, plus the intercept; of a logarithm
    where `log`.

    Attributes:
        common: (F, K).   intercept: (K,).   added: (D, K).
        own: (D, F, K), of the features that are categories; 0 of those that are numbers. None
            where nothing is shared.
    """

    common: np.ndarray
    intercept: np.ndarray
    log: bool
    added: np.ndarray
    own: np.ndarray | None

    def answers(
        self, vectors: np.ndarray, context: Context, offset: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """(m, K) of tangent vectors (m, F), centred as the training's.

        Args: offset: (m, K) what the ridge stands on, where it was fitted on the rest.
        """
        features = context.features
        found = vectors @ self.common + self.intercept + offset + features @ self.added
        if self.own is not None:
            for number in np.flatnonzero(_categorical(context)):
                has = context.indicators[:, number] > 0
                found[has] += SHARED * (vectors[has] @ self.own[number])
        return np.exp(found) if self.log else found


@dataclass(frozen=True)
class KeptPeople:
    """The bank of a radial memory: personal data.

    Attributes:
        vectors: (b, F), centred.   masked: (b, b) their inner products, 0 with oneself.
        context: of the b.   n_people: how many they are.
    """

    vectors: np.ndarray
    masked: np.ndarray
    context: Context
    n_people: int


@dataclass(frozen=True)
class KeptWeights:
    """A fitted target of the radial form: kernels with the bank's scans, each times its
    coefficient, and ``features @ added``, plus the intercept; of a logarithm where `log`.

    Attributes:
        scale1, scale2, beta: of K.   coefficients: (b, K), 0 of scans without a label.
        intercept: (K,).   added: (D, K).
        told: names of the columns of context whose categories are shared.
    """

    scale1: float
    scale2: float
    beta: float
    coefficients: np.ndarray
    intercept: np.ndarray
    log: bool
    added: np.ndarray
    told: tuple[str, ...]
    people: KeptPeople

    def answers(
        self, vectors: np.ndarray, context: Context, offset: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """As `Weights.answers`."""
        people = self.people
        gram, own = vectors @ people.vectors.T / self.scale1, people.masked / self.scale1
        kernel = gram + self.beta * (gram @ own.T) / self.scale2
        left = (vectors**2).sum(1) / self.scale1 + self.beta * (gram**2).sum(1) / self.scale2
        right = (people.vectors**2).sum(1) / self.scale1
        right = right + self.beta * (own**2).sum(1) / self.scale2
        kernel = radial(kernel, left, right, self.beta)
        if self.told:
            kernel = kernel * shared(context.only(self.told), people.context.only(self.told))
        found = kernel @ self.coefficients + self.intercept + offset + context.features @ self.added
        return np.exp(found) if self.log else found


def _categorical(context: Context) -> np.ndarray:
    """(D,) whether an added feature is a category."""
    return np.repeat(
        [bool(column.categories) for column in context.columns],
        [column.width for column in context.columns],
    ).astype(bool)


def collapse(
    bank: AnyBank,
    vectors: np.ndarray,
    labelled: np.ndarray,
    truth: np.ndarray,
    choice: Choice,
    prior: np.ndarray | None = None,
    people: KeptPeople | None = None,
) -> Weights | KeptWeights:
    """Fit a target on all its labelled scans; with a prior what its share leaves over.

    Args:
        vectors: (b, F) of the bank's scans, or landmarks.   people: those of the radial form.
        truth, prior: (n, K) as for `choose`.
    """
    wanted = np.log(truth) if choice.log else truth
    wanted = wanted if prior is None else wanted - choice.share * prior
    own = bank.fit(labelled, wanted, choice.beta, choice.form, choice.alpha)
    known, coefficients = own.known, own.coefficients
    plus = known.features.T @ coefficients / own.mean_square
    plus = plus if choice.form.added else np.zeros_like(plus)
    if people is not None:
        of_all = np.zeros((len(vectors), truth.shape[1]))
        of_all[own.points] = coefficients
        return KeptWeights(
            own.scale1,
            own.scale2,
            choice.beta,
            of_all,
            own.intercept,
            choice.log,
            plus,
            tuple(c.name for c in known.columns if choice.form.shared and c.categories),
            people,
        )

    def weight(part: np.ndarray) -> np.ndarray:
        """(F, K) of coefficients (p, K)."""
        people = choice.beta / own.scale2 * (own.masked.T @ part)  # (b, K), all of the bank
        people[own.points] += part
        return np.asarray(vectors.T @ people / own.scale1)

    deviations = None
    if choice.form.shared:
        indicators = known.indicators
        deviations = np.zeros((indicators.shape[1], vectors.shape[1], truth.shape[1]))
        for number in np.flatnonzero(_categorical(known)):
            deviations[number] = weight(indicators[:, number : number + 1] * coefficients)
    return Weights(weight(coefficients), own.intercept, choice.log, plus, deviations)
