"""People memory: a scan is told by whom it resembles, and by whom those resemble.

Out of inner products G of tangent vectors, n labelled scans against a bank of b scans (themselves
and perhaps unlabelled ones), come two kernels. K1 is G among the labelled. With A = G against the
bank, everybody's similarity to herself set to 0, K2 = A A': two scans are alike that resemble the
same people. Both are scaled to a training diagonal that averages 1, and K = K1 + beta K2. Without
the mask, training scans would meet themselves in the bank and test scans would not: on ABIDE the
features of the first have a root mean square of 1.27, of the second .76, and the gain is gone.

Context is what is known of a scan beside its matrix (site, eye status): K is multiplied by
1 + .5 for each that two scans share, which is a common weight vector plus a partly pooled
deviation for each category.

A ridge a target answers; its alpha and beta are tuned by an inner cross-validation by person whose
bank holds inner training people alone. A beta above 0 has to be clearly better than 0, so that
nothing is lost where there is nothing to win. Being linear in the tangent vector, the answer
collapses to weight vectors: no person is stored.
Shapes: n labelled training scans, b of the bank, m others, F = E + R tangent features, J columns of
context, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.linear.problem import Folds, Problem, inner_folds
from lcm_scale.linear.ridge import RIDGE_ALPHAS, ridge_path

BETAS = (0.0, 0.3, 1.0, 3.0)
SHARED = 0.5  # what a shared category adds to a similarity of 1
# Standard errors by which a beta above 0 has to be better than 0: of few people the inner folds'
# standard error is itself too small, since their training parts overlap.
FEW = 500
CLEAR, CLEAR_OF_FEW = 1.0, 2.0
UNKNOWN = -1  # code of a category that is not known, shared with nobody


@dataclass(frozen=True)
class Bank:
    """Scans as inner products, and what is known of them.

    Attributes:
        gram: (b, b) of tangent vectors.   subject: (b,) who must not meet herself.
        context: int (b, J) codes, `UNKNOWN` where not known.
    """

    gram: np.ndarray
    subject: np.ndarray
    context: np.ndarray


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


def shared(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(m, n) by what a similarity is multiplied: 1, and `SHARED` more for each category in common.

    Args: left, right: codes (m, J), (n, J).
    """
    both = (left[:, None] == right) & (right != UNKNOWN)
    return np.asarray(1 + SHARED * both.sum(2))


@dataclass(frozen=True)
class Choice:
    """What the inner cross-validation chose for a target.

    Attributes:
        beta, alpha: as above.   log: the ridge is of a scalar's logarithm.
        gain, error: mean by which the squared error fell from beta 0, and its standard error over
            people; 0 where beta is.
        held_out: (n, K) inner out-of-fold answers, in the target's own unit.
    """

    beta: float
    alpha: float
    log: bool
    gain: float
    error: float
    held_out: np.ndarray


def choose(
    bank: Bank,
    labelled: np.ndarray,
    truth: np.ndarray,
    stratify: np.ndarray | None,
    seed: int,
    log: bool = False,
) -> Choice:
    """Tune a target.

    Args:
        labelled: n positions in the bank.   truth: (n, K) values, or -1 / +1 a class.
        stratify: (n,) class codes, None for a scalar.   seed: of the inner folds.
        log: the scalar is learnt on its log scale. Where False, a positive scalar is if the inner
            folds prefer it.
    """
    either = (False, True) if (truth > 0).all() else (False,)
    folds = _folds(bank, labelled, stratify, seed)
    answers = _held_out(bank, labelled, truth, folds, (True,) if log else either)
    people = np.unique(bank.subject[labelled], return_inverse=True)[1]
    counts = np.bincount(people)

    def losses(held_out: np.ndarray) -> np.ndarray:
        """(people,) mean squared error of each."""
        return np.bincount(people, ((held_out - truth) ** 2).mean(1)) / counts

    # (log, beta) -> position of the best alpha, and each person's loss there
    best: dict[tuple[bool, float], tuple[int, np.ndarray]] = {}
    for key, path in answers.items():
        each = [losses(held_out) for held_out in path]
        position = int(np.argmin([loss.mean() for loss in each]))
        best[key] = (position, each[position])
    on_log = min(best, key=lambda key: best[key][1].mean())[0]
    plain = best[on_log, 0.0][1]
    clear = CLEAR if len(counts) >= FEW else CLEAR_OF_FEW
    beta, gain, error = 0.0, 0.0, 0.0
    for candidate in BETAS[1:]:
        saved = plain - best[on_log, candidate][1]
        standard_error = float(saved.std() / np.sqrt(len(saved)))
        if saved.mean() > max(gain, clear * standard_error):
            beta, gain, error = candidate, float(saved.mean()), standard_error
    position = best[on_log, beta][0]
    held_out = answers[on_log, beta][position]
    return Choice(beta, float(RIDGE_ALPHAS[position]), on_log, gain, error, held_out)


def _folds(bank: Bank, labelled: np.ndarray, stratify: np.ndarray | None, seed: int) -> Folds:
    codes = np.zeros(len(labelled)) if stratify is None else stratify
    nothing = np.empty((0, 0))
    problem = Problem(nothing, nothing, codes, bank.subject[labelled], 0, seed)
    return inner_folds(problem, stratify is not None)


def _held_out(
    bank: Bank, labelled: np.ndarray, truth: np.ndarray, folds: Folds, logs: Sequence[bool]
) -> dict[tuple[bool, float], np.ndarray]:
    """(log, beta) -> inner out-of-fold answers (alphas, n, K).

    Args: logs: whether the ridge is of the truth's logarithm, or of both forms.
    """
    forms = [np.log(truth) if log else truth for log in logs]
    width = truth.shape[1]
    out = {
        (log, beta): np.zeros((len(RIDGE_ALPHAS), *truth.shape)) for log in logs for beta in BETAS
    }
    for fit, held in folds:
        # The bank of an inner fold has nobody of its held-out people, not even unlabelled.
        inside = ~np.isin(bank.subject, bank.subject[labelled[held]])
        place = np.cumsum(inside) - 1
        own = kernels(bank.gram[np.ix_(inside, inside)], bank.subject[inside], place[labelled[fit]])
        k1, k2 = own.others(bank.gram[np.ix_(labelled[held], inside)], place[labelled[fit]])
        context = bank.context[labelled]
        among, against = shared(context[fit], context[fit]), shared(context[held], context[fit])
        for beta in BETAS:
            path = ridge_path(
                (own.k1 + beta * own.k2) * among,
                (k1 + beta * k2) * against,
                np.concatenate([form[fit] for form in forms], axis=1),
                RIDGE_ALPHAS,
            )
            for form, log in enumerate(logs):
                found = path[:, :, form * width : (form + 1) * width]
                out[log, beta][:, held] = np.exp(found) if log else found
    return out


@dataclass(frozen=True)
class Weights:
    """A fitted target, collapsed: ``phi @ common + SHARED * sum of phi @ own[j][code]``, plus the
    intercept; of a logarithm where `log`.

    Attributes:
        common: (F, K).   own: J arrays (categories, F, K).   intercept: (K,).
    """

    common: np.ndarray
    own: tuple[np.ndarray, ...]
    intercept: np.ndarray
    log: bool

    def answers(self, vectors: np.ndarray, context: np.ndarray) -> np.ndarray:
        """(m, K) of tangent vectors (m, F), centred as the training's, and codes (m, J)."""
        found = vectors @ self.common + self.intercept
        for column, own in enumerate(self.own):
            codes = context[:, column]
            for code in np.unique(codes[(codes != UNKNOWN) & (codes < len(own))]):
                found[codes == code] += SHARED * (vectors[codes == code] @ own[code])
        return np.exp(found) if self.log else found


def collapse(
    bank: Bank, vectors: np.ndarray, labelled: np.ndarray, truth: np.ndarray, choice: Choice
) -> Weights:
    """Fit a target on all its labelled scans.

    Args: vectors: (b, F) whose inner products the bank holds.   truth: (n, K) as for `choose`.
    """
    own = kernels(bank.gram, bank.subject, labelled)
    context = bank.context[labelled]
    kernel = (own.k1 + choice.beta * own.k2) * shared(context, context)
    wanted = np.log(truth) if choice.log else truth
    means = kernel.mean(0)
    centred = kernel - means - means[:, None] + means.mean()
    solved = np.linalg.solve(centred + choice.alpha * np.eye(len(kernel)), wanted - wanted.mean(0))
    coefficients = solved - solved.mean(0)  # they sum to 0 but for rounding
    intercept = wanted.mean(0) - (kernel @ coefficients).mean(0)

    def weight(chosen: np.ndarray) -> np.ndarray:
        """(F, K) of the coefficients of some labelled scans."""
        part = np.where(chosen[:, None], coefficients, 0.0)
        people = choice.beta / own.scale2 * (own.masked.T @ part)  # (b, K), all of the bank
        people[labelled] += part
        return np.asarray(vectors.T @ people / own.scale1)

    deviations = tuple(
        np.stack([weight(column == code) for code in range(int(column.max(initial=-1)) + 1)])
        if column.max(initial=-1) >= 0
        else np.zeros((0, vectors.shape[1], truth.shape[1]))
        for column in context.T
    )
    return Weights(weight(np.ones(len(labelled), bool)), deviations, intercept, choice.log)


def _mean_diagonal(kernel: np.ndarray) -> float:
    return max(float(np.diag(kernel).mean()), 1e-12)
