"""People memory: a scan is told by whom it resembles, and by whom those resemble.

Out of inner products G of tangent vectors, n labelled scans against a bank of b scans (themselves
and perhaps unlabelled ones), come two kernels. K1 is G among the labelled. With A = G against the
bank, everybody's similarity to herself set to 0, K2 = A A': two scans are alike that resemble the
same people. Both are scaled to a training diagonal that averages 1, and K = K1 + beta K2. Without
the mask, training scans would meet themselves in the bank and test scans would not: on ABIDE the
features of the first have a root mean square of 1.27, of the second .76, and the gain is gone.

With context (`linear.context`) K is multiplied by what two scans share, or what is known is added
to it, or both; which of these, if any, is tuned too.

A ridge a target answers; its alpha and beta are tuned by an inner cross-validation by person whose
bank holds inner training people alone. A beta above 0 and a use of context have to be clearly
better than none, so that nothing is lost where there is nothing to win. Being linear in the tangent
vector, the answer collapses to weight vectors: no person is stored.
Shapes: n labelled training scans, b of the bank, m others, F = E + R tangent features, D added
features of the context, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from lcm_scale.linear.context import SHARED, Context, added, shared
from lcm_scale.linear.prior import SHARES, USUAL_SHARE
from lcm_scale.linear.problem import Folds, Problem, inner_folds
from lcm_scale.linear.ridge import RIDGE_ALPHAS, ridge_path

BETAS = (0.0, 0.3, 1.0, 3.0)
# Standard errors by which a beta above 0 has to be better than 0: of few people the inner folds'
# standard error is itself too small, since their training parts overlap.
FEW = 500
CLEAR, CLEAR_OF_FEW = 1.0, 2.0
PRIOR_ALPHAS = np.append(RIDGE_ALPHAS, 1e3)  # of few people the prior is left as it is


class Form(NamedTuple):
    """How context enters: as categories shared, as features added."""

    shared: bool
    added: bool


PLAIN = Form(False, False)
FORMS = (Form(True, False), Form(False, True), Form(True, True))


Wanted = tuple[bool, float]  # log, share of the prior
Key = tuple[bool, float, float, Form]  # log, share, beta, form
T = TypeVar("T")


@dataclass(frozen=True)
class Bank:
    """Scans as inner products, and what is known of them.

    Attributes:
        gram: (b, b) of tangent vectors.   subject: (b,) who must not meet herself.
        context: of the b, its numbers' centres fitted.
    """

    gram: np.ndarray
    subject: np.ndarray
    context: Context


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


@dataclass(frozen=True)
class Choice:
    """What the inner cross-validation chose for a target.

    Attributes:
        beta, alpha: as above.   log: the ridge is of a scalar's logarithm.
        gain, error: mean by which the squared error fell from beta 0, and its standard error over
            people; 0 where beta is.
        held_out: (n, K) inner out-of-fold answers, in the target's own unit.
        form: how context enters.   form_gain, form_error: as `gain` and `error`, from no context.
        share: of the prior's answer, whose rest the ridge fits; 0 without a prior.
    """

    beta: float
    alpha: float
    log: bool
    gain: float
    error: float
    held_out: np.ndarray
    form: Form = PLAIN
    form_gain: float = 0.0
    form_error: float = 0.0
    share: float = 0.0


def choose(
    bank: Bank,
    labelled: np.ndarray,
    truth: np.ndarray,
    stratify: np.ndarray | None,
    seed: int,
    log: bool = False,
    context: bool = False,
    prior: np.ndarray | None = None,
) -> Choice:
    """Tune a target.

    Args:
        labelled: n positions in the bank.   truth: (n, K) values, or -1 / +1 a class.
        stratify: (n,) class codes, None for a scalar.   seed: of the inner folds.
        log: the scalar is learnt on its log scale. Where False, a positive scalar is if the inner
            folds prefer it.
        context: whether the bank's is tried, beside the beta that was chosen without.
        prior: (n, K) what a model before answers, a log scalar's as its logarithm: its share is
            tuned last. None: there is none.
    """
    # A prior's answer is linear on its own scale.
    either = (False, True) if (truth > 0).all() and prior is None else (False,)
    folds = _folds(bank, labelled, stratify, seed)
    losses = _Losses(truth, bank.subject[labelled])
    asked = [(beta, PLAIN) for beta in BETAS]
    wanted = [(on_log, 0.0) for on_log in ((True,) if log else either)]
    tried = losses.best(_held_out(bank, labelled, truth, folds, wanted, asked))
    on_log = min(tried, key=lambda key: tried[key].each.mean())[0]
    of_beta = {beta: tried[on_log, 0.0, beta, PLAIN] for beta in BETAS}
    beta, gain, error = losses.clearly_better(of_beta, 0.0)
    best, form, form_gain, form_error = of_beta[beta], PLAIN, 0.0, 0.0
    if context:
        asked = [(beta, form) for form in FORMS]
        found = losses.best(_held_out(bank, labelled, truth, folds, [(on_log, 0.0)], asked))
        of_form = {PLAIN: best} | {key[-1]: value for key, value in found.items()}
        form, form_gain, form_error = losses.clearly_better(of_form, PLAIN)
        best = of_form[form]
    share, alphas = 0.0, RIDGE_ALPHAS
    if prior is not None:
        alphas = PRIOR_ALPHAS
        wanted, asked = [(on_log, share) for share in SHARES], [(beta, form)]
        found = losses.best(_held_out(bank, labelled, truth, folds, wanted, asked, prior))
        of_share = {key[1]: value for key, value in found.items()}
        share, _, _ = losses.clearly_better(of_share, USUAL_SHARE)
        best = of_share[share]
    return Choice(
        beta=beta,
        alpha=float(alphas[best.position]),
        log=on_log,
        gain=gain,
        error=error,
        held_out=best.held_out,
        form=form,
        form_gain=form_gain,
        form_error=form_error,
        share=share,
    )


@dataclass(frozen=True)
class _Tried:
    """The best alpha of a kernel.  Attributes: each: (people,) losses.   held_out: (n, K)."""

    position: int
    each: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class _Losses:
    """Squared errors by person.  Attributes: truth: (n, K).   subject: (n,)."""

    truth: np.ndarray
    subject: np.ndarray

    @property
    def clear(self) -> float:
        """Standard errors that count as clear."""
        return CLEAR_OF_FEW if len(np.unique(self.subject)) < FEW else CLEAR

    def of(self, held_out: np.ndarray) -> np.ndarray:
        """(people,) mean squared error of each, of answers (n, K)."""
        people = np.unique(self.subject, return_inverse=True)[1]
        total = np.bincount(people, ((held_out - self.truth) ** 2).mean(1))
        return total / np.bincount(people)

    def best(self, answers: dict[Key, np.ndarray]) -> dict[Key, _Tried]:
        """Of each kernel's answers (alphas, n, K)."""
        found = {}
        for key, path in answers.items():
            each = [self.of(held_out) for held_out in path]
            position = int(np.argmin([loss.mean() for loss in each]))
            found[key] = _Tried(position, each[position], path[position])
        return found

    def clearly_better(self, tried: dict[T, _Tried], none: T) -> tuple[T, float, float]:
        """The one whose loss is smallest of those that are clearly better than `none`, by how much,
        and the standard error of that over people."""
        chosen, gain, error = none, 0.0, 0.0
        for candidate, result in tried.items():
            saved = tried[none].each - result.each
            standard_error = float(saved.std() / np.sqrt(len(saved)))
            if saved.mean() > max(gain, self.clear * standard_error):
                chosen, gain, error = candidate, float(saved.mean()), standard_error
        return chosen, gain, error


def _folds(bank: Bank, labelled: np.ndarray, stratify: np.ndarray | None, seed: int) -> Folds:
    codes = np.zeros(len(labelled)) if stratify is None else stratify
    nothing = np.empty((0, 0))
    problem = Problem(nothing, nothing, codes, bank.subject[labelled], 0, seed)
    return inner_folds(problem, stratify is not None)


def _held_out(
    bank: Bank,
    labelled: np.ndarray,
    truth: np.ndarray,
    folds: Folds,
    wanted: Sequence[Wanted],
    asked: Sequence[tuple[float, Form]],
    prior: np.ndarray | None = None,
) -> dict[Key, np.ndarray]:
    """(log, share, beta, form) -> inner out-of-fold answers (alphas, n, K).

    What is wanted shares each kernel's decomposition, which is what takes the time.

    Args:
        wanted: whether the ridge is of the truth's logarithm, and of the prior the share whose
            rest it fits.   asked: kernels.   prior: (n, K); None: there is none.
    """
    alphas = RIDGE_ALPHAS if prior is None else PRIOR_ALPHAS
    starts = [share * (np.zeros_like(truth) if prior is None else prior) for _, share in wanted]
    rests = [
        (np.log(truth) if log else truth) - start
        for (log, _), start in zip(wanted, starts, strict=True)
    ]
    width = truth.shape[1]
    out = {
        (*each, *kernel): np.zeros((len(alphas), *truth.shape))
        for each in wanted
        for kernel in asked
    }
    for fit, held in folds:
        # The bank of an inner fold has nobody of its held-out people, not even unlabelled.
        inside = ~np.isin(bank.subject, bank.subject[labelled[held]])
        place = np.cumsum(inside) - 1
        own = kernels(bank.gram[np.ix_(inside, inside)], bank.subject[inside], place[labelled[fit]])
        k1, k2 = own.others(bank.gram[np.ix_(labelled[held], inside)], place[labelled[fit]])
        known, theirs = bank.context.of(labelled[fit]), bank.context.of(labelled[held])
        for beta, form in asked:
            path = ridge_path(
                with_context(own.k1 + beta * own.k2, known, known, form),
                with_context(k1 + beta * k2, theirs, known, form),
                np.concatenate([rest[fit] for rest in rests], axis=1),
                alphas,
            )
            for number, (log, share) in enumerate(wanted):
                found = path[:, :, number * width : (number + 1) * width] + starts[number][held]
                out[log, share, beta, form][:, held] = np.exp(found) if log else found
    return out


def with_context(kernel: np.ndarray, left: Context, right: Context, form: Form) -> np.ndarray:
    """A kernel (m, n) of scans with labelled ones, with what is known of both.

    Args: right: of the n, whose added features have a mean square norm of 1 in the kernel.
    """
    if form.shared:
        kernel = kernel * shared(left, right)
    if form.added:
        kernel = kernel + added(left, right) / right.mean_square
    return kernel


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
    bank: Bank,
    vectors: np.ndarray,
    labelled: np.ndarray,
    truth: np.ndarray,
    choice: Choice,
    prior: np.ndarray | None = None,
) -> Weights:
    """Fit a target on all its labelled scans; with a prior what its share leaves over.

    Args:
        vectors: (b, F) whose inner products the bank holds.   truth, prior: (n, K) as for `choose`.
    """
    own = kernels(bank.gram, bank.subject, labelled)
    known = bank.context.of(labelled)
    kernel = with_context(own.k1 + choice.beta * own.k2, known, known, choice.form)
    wanted = np.log(truth) if choice.log else truth
    wanted = wanted if prior is None else wanted - choice.share * prior
    means = kernel.mean(0)
    centred = kernel - means - means[:, None] + means.mean()
    solved = np.linalg.solve(centred + choice.alpha * np.eye(len(kernel)), wanted - wanted.mean(0))
    coefficients = solved - solved.mean(0)  # they sum to 0 but for rounding
    intercept = wanted.mean(0) - (kernel @ coefficients).mean(0)

    def weight(part: np.ndarray) -> np.ndarray:
        """(F, K) of coefficients (n, K)."""
        people = choice.beta / own.scale2 * (own.masked.T @ part)  # (b, K), all of the bank
        people[labelled] += part
        return np.asarray(vectors.T @ people / own.scale1)

    features, indicators = known.features, known.indicators
    deviations = None
    if choice.form.shared:
        deviations = np.zeros((features.shape[1], vectors.shape[1], truth.shape[1]))
        for number in np.flatnonzero(_categorical(known)):
            deviations[number] = weight(indicators[:, number : number + 1] * coefficients)
    plus = features.T @ coefficients / known.mean_square
    plus = plus if choice.form.added else np.zeros_like(plus)
    return Weights(weight(coefficients), intercept, choice.log, plus, deviations)


def _mean_diagonal(kernel: np.ndarray) -> float:
    return max(float(np.diag(kernel).mean()), 1e-12)
