"""A fitted people memory as weights. Being linear in the tangent vector, the answer is one weight
vector a target and one a category of the context: no person is stored.

Shapes: b scans of the bank, n labelled, m others, F = E + R tangent features, D added features of
the context, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.linear.context import SHARED, Context
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
) -> Weights:
    """Fit a target on all its labelled scans; with a prior what its share leaves over.

    Args:
        vectors: (b, F) of the bank's scans, or landmarks.
        truth, prior: (n, K) as for `choose`.
    """
    wanted = np.log(truth) if choice.log else truth
    wanted = wanted if prior is None else wanted - choice.share * prior
    own = bank.fit(labelled, wanted, choice.beta, choice.form, choice.alpha)
    known, coefficients = own.known, own.coefficients

    def weight(part: np.ndarray) -> np.ndarray:
        """(F, K) of coefficients (p, K)."""
        people = choice.beta / own.scale2 * (own.masked.T @ part)  # (b, K), all of the bank
        people[own.points] += part
        return np.asarray(vectors.T @ people / own.scale1)

    features, indicators = known.features, known.indicators
    deviations = None
    if choice.form.shared:
        deviations = np.zeros((features.shape[1], vectors.shape[1], truth.shape[1]))
        for number in np.flatnonzero(_categorical(known)):
            deviations[number] = weight(indicators[:, number : number + 1] * coefficients)
    plus = features.T @ coefficients / own.mean_square
    plus = plus if choice.form.added else np.zeros_like(plus)
    return Weights(weight(coefficients), own.intercept, choice.log, plus, deviations)
