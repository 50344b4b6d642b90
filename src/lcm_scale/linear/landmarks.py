"""People memory of more scans than a matrix of people by people has room for.

Some people are landmarks. They are the bank, so that A has a column a landmark scan; and the answer
is a sum of kernels with them alone (Nystroem), whose coefficients are fitted on everybody's labels:
with K' the kernel of all n labelled scans with the p landmark scans, K'' that of the landmarks
among themselves and L L' = K'', scans have the features K' L'^-1, and a ridge on these is solved in
their p dimensions. Where everybody is a landmark that is the ridge of `linear.kernels`.

A landmark does not meet herself in the bank, and an inner fold has no landmark of its held-out
people. One pass over the scans serves all kernels of a fold, one decomposition of p x p all alphas
of a kernel. Nothing is larger than n x p numbers.
Shapes: n labelled scans of b, m others, p landmark scans, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from lcm_scale.linear.context import Context
from lcm_scale.linear.kernels import Asked, Bank, Fitted, Form, radial, with_context

BLOCK = 1024  # scans whose kernels are in memory at a time
# Of the mean diagonal, added to K'': vectors about a mean have no inverse.
JITTER = 1e-9


def draw_landmarks(
    subject: np.ndarray, labelled: Sequence[np.ndarray], most: int, seed: int
) -> np.ndarray:
    """Positions of at most `most` scans, ascending, of whole people.

    Drawn by the seed; turn by turn of each target's labelled people, so that one that few people
    have keeps theirs, then of everybody.

    Args: subject: (b,).   labelled: positions of each target's.
    """
    people, inverse, counts = np.unique(subject, return_inverse=True, return_counts=True)
    rank = np.empty(len(people), dtype=np.int64)
    rank[np.random.default_rng(seed).permutation(len(people))] = np.arange(len(people))
    queues = [np.unique(inverse[scans]) for scans in labelled if len(scans)]
    # One person of each target, in drawn order, then the next of each; everybody comes last.
    turns = np.concatenate([np.arange(len(queue)) for queue in queues] + [np.arange(len(people))])
    last = np.repeat([0, 1], [len(turns) - len(people), len(people)])
    drawn = [queue[np.argsort(rank[queue])] for queue in [*queues, np.arange(len(people))]]
    order = np.concatenate(drawn)[np.lexsort((turns, last))]
    order = order[np.sort(np.unique(order, return_index=True)[1])]
    kept = order[np.cumsum(counts[order]) <= most]
    return np.flatnonzero(np.isin(inverse, kept))


@dataclass(frozen=True)
class LandmarkBank:
    """Scans as inner products with landmarks, and what is known of them.

    Attributes:
        gram: (b, p) of tangent vectors.   squares: (b,) of their norms.
        at: (p,) positions of the landmarks among the b, ascending.
        subject: (b,) who must not meet herself.
        context: of the b, its numbers' centres fitted.   radial: the form of the kernels.
    """

    gram: np.ndarray
    squares: np.ndarray
    at: np.ndarray
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
        """As `Bank.paths`."""
        near = _Near.of(self, ~np.isin(self.subject[self.at], self.subject[held]), fit)
        for kernel, ridge in zip(asked, near.ridges(fit, asked, wanted), strict=True):
            values, vectors = np.linalg.eigh(ridge.products)
            projected = vectors.T @ ridge.targets
            blocks = near.features(held, [kernel], [ridge.root])
            basis = np.concatenate([features for (features,) in blocks])
            basis = (basis - ridge.mean) @ vectors
            values = np.maximum(values, 0)
            yield np.stack([basis @ (projected / (values + a)[:, None]) for a in alphas]) + (
                wanted.mean(0)
            )

    def fit(
        self, labelled: np.ndarray, wanted: np.ndarray, beta: float, form: Form, alpha: float
    ) -> Fitted:
        """As `Bank.fit`, its points and bank being the landmarks."""
        everybody = np.ones(len(self.at), dtype=bool)
        near = _Near.of(self, everybody, labelled)
        (ridge,) = near.ridges(labelled, [(beta, form)], wanted)
        weights = np.linalg.solve(
            ridge.products + alpha * np.eye(len(ridge.products)), ridge.targets
        )
        return Fitted(
            np.arange(len(self.at)),
            near.scale1,
            near.scale2,
            near.masked(self.at),
            solve_triangular(ridge.root, weights, trans=1, lower=True),
            wanted.mean(0) - ridge.mean @ weights,
            near.known,
            near.mean_square,
        )

    def own_answers(
        self, labelled: np.ndarray, wanted: np.ndarray, beta: float, form: Form, alpha: float
    ) -> np.ndarray:
        """As `Bank.own_answers`."""
        coefficients = self.fit(labelled, wanted, beta, form, alpha).coefficients
        near = _Near.of(self, np.ones(len(self.at), dtype=bool), labelled)
        landmarks, asked = near.masked(self.at), [(beta, form._replace(added=False))]
        found = [
            near.kernels(part, asked, landmarks, strangers=True)[0] for part in blocks(labelled)
        ]
        return np.concatenate(found) @ coefficients


AnyBank = Bank | LandmarkBank


@dataclass(frozen=True)
class _Ridge:
    """What a ridge needs of its scans' features, about their mean.

    Attributes: root: L.   products: (p, p).   targets: (p, K).   mean: (p,).
    """

    root: np.ndarray
    products: np.ndarray
    targets: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True)
class _Near:
    """Kernels with those landmarks that may be met.

    Attributes:
        columns: of the bank's gram, p here.
        scale1, scale2, mean_square: as of all labelled scans.
        known: context of the p.
    """

    bank: LandmarkBank
    columns: np.ndarray
    scale1: float
    scale2: float
    known: Context
    mean_square: float

    @classmethod
    def of(cls, bank: LandmarkBank, met: np.ndarray, labelled: np.ndarray) -> _Near:
        """Args: met: (all landmarks,) whether each may be."""
        scale1 = max(float(bank.squares[labelled].mean()), 1e-12)
        columns = np.flatnonzero(met)
        mean_square = bank.context.of(labelled).mean_square
        known = bank.context.of(bank.at[columns])
        near = cls(bank, columns, scale1, 1.0, known, mean_square)
        total = sum(float((near.masked(part) ** 2).sum()) for part in blocks(labelled))
        scale2 = max(total / len(labelled), 1e-12)
        return cls(bank, columns, scale1, scale2, known, mean_square)

    def plain(self, scans: np.ndarray) -> np.ndarray:
        """K1 of scans with the landmarks."""
        return self.bank.gram[scans[:, None], self.columns] / self.scale1

    def masked(self, scans: np.ndarray) -> np.ndarray:
        """A of scans."""
        theirs = self.bank.subject[self.bank.at[self.columns]]
        return np.where(self.bank.subject[scans, None] == theirs, 0.0, self.plain(scans))

    def kernels(
        self, scans: np.ndarray, asked: Asked, landmarks: np.ndarray, strangers: bool = False
    ) -> list[np.ndarray]:
        """Each of scans with the landmarks.

        Args: landmarks: A of these.   strangers: landmarks meet themselves, as others meet them.
        """
        k1, known = self.plain(scans), self.bank.context.of(scans)
        theirs = k1 if strangers else self.masked(scans)
        k2 = theirs @ landmarks.T / self.scale2
        found = []
        for beta, form in asked:
            kernel = k1 + beta * k2
            if self.bank.radial:
                left = self.squares(scans, theirs, beta)
                right = self.squares(self.bank.at[self.columns], landmarks, beta)
                kernel = radial(kernel, left, right, beta)
            found.append(with_context(kernel, known, self.known, form, self.mean_square))
        return found

    def squares(self, scans: np.ndarray, masked: np.ndarray, beta: float) -> np.ndarray:
        """Of the norms of scans in K.  Args: masked: A of them."""
        one, two = self.bank.squares[scans] / self.scale1, (masked**2).sum(1) / self.scale2
        return np.asarray(one + beta * two)

    def features(
        self, scans: np.ndarray, asked: Asked, roots: Sequence[np.ndarray]
    ) -> Iterator[list[np.ndarray]]:
        """Block by block of scans, of each kernel the features."""
        landmarks = self.masked(self.bank.at[self.columns])
        for part in blocks(scans):
            found = self.kernels(part, asked, landmarks)
            yield [
                solve_triangular(root, kernel.T, lower=True, check_finite=False).T
                for root, kernel in zip(roots, found, strict=True)
            ]

    def ridges(self, scans: np.ndarray, asked: Asked, wanted: np.ndarray) -> list[_Ridge]:
        """Of each kernel.  Args: wanted: of the scans, (n, K)."""
        at = self.bank.at[self.columns]
        roots = [_root(kernel) for kernel in self.kernels(at, asked, self.masked(at))]
        p, centred = len(at), wanted - wanted.mean(0)
        products = [np.zeros((p, p)) for _ in asked]
        targets = [np.zeros((p, wanted.shape[1])) for _ in asked]
        sums = [np.zeros(p) for _ in asked]
        done = 0
        for found in self.features(scans, asked, roots):
            part = centred[done : done + len(found[0])]
            done += len(part)
            for number, features in enumerate(found):
                products[number] += features.T @ features
                targets[number] += features.T @ part
                sums[number] += features.sum(0)
        return [
            _Ridge(root, product - np.outer(total, total) / done, target, total / done)
            for root, product, target, total in zip(roots, products, targets, sums, strict=True)
        ]


def _root(kernel: np.ndarray) -> np.ndarray:
    """L of K''."""
    jitter = JITTER * float(np.diag(kernel).mean())
    return np.asarray(cholesky(kernel + jitter * np.eye(len(kernel)), lower=True))


def blocks(scans: np.ndarray) -> Iterator[np.ndarray]:
    """Some scans at a time."""
    for start in range(0, len(scans), BLOCK):
        yield scans[start : start + BLOCK]
