"""The kernels of people memory, from inner products of tangent vectors.

G are the inner products of n labelled scans with a bank of b scans (themselves and perhaps
unlabelled ones). K1 is G among the labelled. With A = G against the bank, everybody's similarity to
herself set to 0, K2 = A A': two scans are alike that resemble the same people. Both are scaled to a
training diagonal that averages 1, and K = K1 + beta K2. Without the mask, training scans would meet
themselves in the bank and test scans would not: on ABIDE the features of the first have a root mean
square of 1.27, of the second .76, and the gain is gone.

With context (`linear.context`) K is multiplied by what two scans share, or what is known is added
to it, or both. The radial form (`model.people_memory: rbf`) takes exp(-|x - y|^2 / 2) before,
|x - y| being the distance that K / (1 + beta) says, whose training diagonal averages 1.
Shapes: n labelled training scans, b of the bank, m others, p points, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lcm_scale.linear.context import Context, added, shared
from lcm_scale.linear.ridge import ridge_path


class Form(NamedTuple):
    """How context enters: as categories shared, as features added."""

    shared: bool
    added: bool


PLAIN = Form(False, False)
FORMS = (Form(True, False), Form(False, True), Form(True, True))


Asked = Sequence[tuple[float, Form]]  # beta and form of each kernel


@dataclass(frozen=True)
class Fitted:
    """A ridge on all labelled scans: a sum of kernels with p points, of which each has a
    coefficient.

    Attributes:
        points: (p,) their positions among the b scans of the bank.
        scale1, scale2: of the kernels.   masked: A, (p, b).
        coefficients: (p, K).   intercept: (K,).
        known: context of the p.   mean_square: by which products of added features are divided.
    """

    points: np.ndarray
    scale1: float
    scale2: float
    masked: np.ndarray
    coefficients: np.ndarray
    intercept: np.ndarray
    known: Context
    mean_square: float


@dataclass(frozen=True)
class Bank:
    """Scans as inner products, and what is known of them.

    Attributes:
        gram: (b, b) of tangent vectors.   subject: (b,) who must not meet herself.
        context: of the b, its numbers' centres fitted.   radial: the form of the kernels.
    """

    gram: np.ndarray
    subject: np.ndarray
    context: Context
    radial: bool = False

    def paths(
        self,
        fit: np.ndarray,
        held: np.ndarray,
        asked: Asked,
        wanted: np.ndarray,
        alphas: np.ndarray,
    ) -> Iterator[np.ndarray]:
        """For each kernel, what ridges on `fit` answer about `held`: (alphas, held, K).

        Args: fit, held: positions of labelled scans.   wanted: (fit, K).
        """
        # The bank of an inner fold has nobody of its held-out people, not even unlabelled.
        inside = ~np.isin(self.subject, self.subject[held])
        place = np.cumsum(inside) - 1
        own = kernels(self.gram[np.ix_(inside, inside)], self.subject[inside], place[fit])
        seen, square = self.gram[np.ix_(held, inside)], self.gram[held, held]
        k1, k2 = own.others(seen, place[fit])
        known, theirs = self.context.of(fit), self.context.of(held)
        for beta, form in asked:
            train, test = own.k1 + beta * own.k2, k1 + beta * k2
            if self.radial:
                squares = own.squares(beta)
                train = radial(train, squares, squares, beta)
                test = radial(test, own.squares_of(seen, square, beta), squares, beta)
            yield ridge_path(
                with_context(train, known, known, form),
                with_context(test, theirs, known, form),
                wanted,
                alphas,
            )

    def fit(
        self, labelled: np.ndarray, wanted: np.ndarray, beta: float, form: Form, alpha: float
    ) -> Fitted:
        """A ridge on all labelled scans.  Args: labelled: (n,) positions.   wanted: (n, K)."""
        own, known = kernels(self.gram, self.subject, labelled), self.context.of(labelled)
        kernel = own.k1 + beta * own.k2
        if self.radial:
            kernel = radial(kernel, own.squares(beta), own.squares(beta), beta)
        kernel = with_context(kernel, known, known, form)
        means = kernel.mean(0)
        centred = kernel - means - means[:, None] + means.mean()
        solved = np.linalg.solve(centred + alpha * np.eye(len(kernel)), wanted - wanted.mean(0))
        coefficients = solved - solved.mean(0)  # they sum to 0 but for rounding
        intercept = wanted.mean(0) - (kernel @ coefficients).mean(0)
        return Fitted(
            labelled,
            own.scale1,
            own.scale2,
            own.masked,
            coefficients,
            intercept,
            known,
            known.mean_square,
        )

    def own_answers(
        self, labelled: np.ndarray, wanted: np.ndarray, beta: float, form: Form, alpha: float
    ) -> np.ndarray:
        """(n, K) what that ridge's weights say of the labelled scans themselves, as of strangers,
        by their matrices: without intercept, and without what is added of their context."""
        own, known = kernels(self.gram, self.subject, labelled), self.context.of(labelled)
        seen = self.gram[labelled]
        k1, k2 = own.others(seen, labelled)
        kernel = k1 + beta * k2
        if self.radial:
            square = np.diag(self.gram)[labelled]
            kernel = radial(kernel, own.squares_of(seen, square, beta), own.squares(beta), beta)
        kernel = with_context(kernel, known, known, form._replace(added=False))
        return kernel @ self.fit(labelled, wanted, beta, form, alpha).coefficients


@dataclass(frozen=True)
class Kernels:
    """K1 and K2 of labelled scans among themselves, (n, n), and how they came about.

    Attributes: scale1, scale2: by which G and A A' were divided.   masked: A, (n, b).
    """

    k1: np.ndarray
    k2: np.ndarray
    scale1: float
    scale2: float
    masked: np.ndarray

    def squares(self, beta: float) -> np.ndarray:
        """(n,) of the norms in K."""
        return np.asarray(np.diag(self.k1) + beta * np.diag(self.k2))

    def squares_of(self, gram: np.ndarray, square: np.ndarray, beta: float) -> np.ndarray:
        """(m,) of the norms in K, of scans whose people are not in the bank.

        Args: gram: (m, b) against the bank.   square: (m,) of their vectors' norms.
        """
        twice = ((gram / self.scale1) ** 2).sum(1)
        return np.asarray(square / self.scale1 + beta * twice / self.scale2)

    def others(self, gram: np.ndarray, labelled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """K1 and K2, (m, n), of scans whose people are not in the bank.

        Args: gram: (m, b) against the bank.   labelled: positions in it of the n.
        """
        scaled = gram / self.scale1
        return scaled[:, labelled], scaled @ self.masked.T / self.scale2


def kernels(gram: np.ndarray, subject: np.ndarray, labelled: np.ndarray) -> Kernels:
    """Both kernels of a bank's labelled scans.

    Args: gram: (b, b).   subject: (b,).   labelled: n positions in the bank.
    """
    rows = gram[labelled]
    scale1 = _mean_diagonal(rows[:, labelled])
    masked = np.where(subject[labelled, None] == subject, 0.0, rows) / scale1
    k2 = masked @ masked.T
    scale2 = _mean_diagonal(k2)
    return Kernels(rows[:, labelled] / scale1, k2 / scale2, scale1, scale2, masked)


def radial(kernel: np.ndarray, left: np.ndarray, right: np.ndarray, beta: float) -> np.ndarray:
    """exp(-|x - y|^2 / 2) of a kernel (m, n) over 1 + beta.

    Args: left, right: (m,) and (n,), squared norms in the kernel.
    """
    return np.asarray(np.exp((kernel - (left[:, None] + right) / 2) / (1 + beta)))


def with_context(
    kernel: np.ndarray,
    left: Context,
    right: Context,
    form: Form,
    mean_square: float | None = None,
) -> np.ndarray:
    """A kernel (m, n) of scans with labelled ones, with what is known of both.

    Args:
        right: of the n.   mean_square: by which products of added features are divided; None: such
            that those of the n have a mean square norm of 1.
    """
    if form.shared:
        kernel = kernel * shared(left, right)
    if form.added:
        kernel = kernel + added(left, right) / (mean_square or right.mean_square)
    return kernel


def _mean_diagonal(kernel: np.ndarray) -> float:
    return max(float(np.diag(kernel).mean()), 1e-12)
