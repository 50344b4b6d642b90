"""What a model before this one answers, as a place to start from: people memory then fits what that
leaves over.

A pretrained memory is linear in the tangent vectors about its own reference, and so is a memory
that itself started from another; hence several references. A ridge of y - s p in place of y is a
ridge that shrinks towards s times the pretrained weights in place of towards 0: with few labels the
answer is the pretrained one about a new mean, with many it is the new data's own. The share s
starts at `USUAL_SHARE` and moves only where the inner folds are clear: on 10 to 100 people their
plain minimum lost what the prior had won (docs/log.md).
Shapes: n scans, P references, R regions, F tangent features, K classes, or 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lcm_scale.linear.tangent import TangentSpace

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
USUAL_SHARE = 0.75


@dataclass(frozen=True)
class PriorTarget:
    """What is known of a target.

    Attributes:
        classes: codes of its K classes; empty for a scalar.
        weights: (P, F, K) of the ridge, before any calibration.   intercept: (K,).
        log: it is of a scalar's logarithm.
    """

    classes: tuple[int, ...]
    weights: np.ndarray
    intercept: np.ndarray
    log: bool

    def of(self, classes: tuple[int, ...]) -> PriorTarget | None:
        """Of some classes, each against the mean of them, since others are no answers any more;
        None where one is not known.  Args: classes: as the memory's; empty for a scalar."""
        if not set(classes) <= set(self.classes) or bool(classes) != bool(self.classes):
            return None
        if not classes:
            return self
        columns = [self.classes.index(code) for code in classes]
        weights, intercept = self.weights[..., columns], self.intercept[columns]
        return PriorTarget(
            classes,
            weights - weights.mean(-1, keepdims=True),
            intercept - intercept.mean(),
            self.log,
        )

    def times(self, share: float) -> PriorTarget:
        """A share of its answer."""
        return replace(self, weights=share * self.weights, intercept=share * self.intercept)


@dataclass(frozen=True)
class Prior:
    """A pretrained memory.

    Attributes: whitenings: (P, R, R).   centres: (P, F).   targets: by name.
    """

    whitenings: np.ndarray
    centres: np.ndarray
    targets: Mapping[str, PriorTarget]

    def vectors_of(self, matrices: np.ndarray) -> np.ndarray:
        """(P, n, F) of positive definite matrices (n, R, R), about each reference and its
        centre."""
        return np.stack(
            [
                TangentSpace(whitening).vectors_of(matrices) - centre
                for whitening, centre in zip(self.whitenings, self.centres, strict=True)
            ]
        )


def prior_answers(target: PriorTarget, vectors: np.ndarray) -> np.ndarray:
    """(n, K) of vectors (P, n, F): of a scalar with a log its logarithm."""
    return np.einsum("pnf,pfk->nk", vectors, target.weights) + target.intercept
