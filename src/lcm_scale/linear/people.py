"""People memory: a scan is told by whom it resembles, and by whom those resemble.

A ridge a target answers, with the kernels of `linear.kernels` or, of many scans, of
`linear.landmarks`. Its alpha, the beta of the kernel and the use of context are tuned by an inner
cross-validation by person whose bank holds inner training people alone. A beta above 0 and a use of
context have to be clearly better than none, so that nothing is lost where there is nothing to win.
Shapes: n labelled training scans of a bank, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lcm_scale.linear.kernels import FORMS, PLAIN, Asked, Form
from lcm_scale.linear.landmarks import AnyBank
from lcm_scale.linear.prior import SHARES, USUAL_SHARE
from lcm_scale.linear.problem import Folds, Problem, inner_folds
from lcm_scale.linear.ridge import RIDGE_ALPHAS

BETAS = (0.0, 0.3, 1.0, 3.0)
# Standard errors by which a beta above 0 has to be better than 0: of few people the inner folds'
# standard error is itself too small, since their training parts overlap.
FEW = 500
CLEAR, CLEAR_OF_FEW = 1.0, 2.0
# The radial kernel's diagonal is 1 and others are about 1/e: that is a ridge of its own.
RADIAL_SHRINKS = 10.0
PRIOR_ALPHAS = np.append(RIDGE_ALPHAS, 1e3)  # of few people the prior is left as it is


Wanted = tuple[bool, float]  # log, share of the prior
Key = tuple[bool, float, float, Form]  # log, share, beta, form
T = TypeVar("T")


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
    bank: AnyBank,
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
    share = 0.0
    if prior is not None:
        wanted, asked = [(on_log, share) for share in SHARES], [(beta, form)]
        found = losses.best(_held_out(bank, labelled, truth, folds, wanted, asked, prior))
        of_share = {key[1]: value for key, value in found.items()}
        share, _, _ = losses.clearly_better(of_share, USUAL_SHARE)
        best = of_share[share]
    return Choice(
        beta=beta,
        alpha=float(_alphas(bank, prior is not None)[best.position]),
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


def _alphas(bank: AnyBank, prior: bool) -> np.ndarray:
    """That are tried."""
    alphas = PRIOR_ALPHAS if prior else RIDGE_ALPHAS
    return alphas / RADIAL_SHRINKS if bank.radial else alphas


def _folds(bank: AnyBank, labelled: np.ndarray, stratify: np.ndarray | None, seed: int) -> Folds:
    codes = np.zeros(len(labelled)) if stratify is None else stratify
    nothing = np.empty((0, 0))
    problem = Problem(nothing, nothing, codes, bank.subject[labelled], 0, seed)
    return inner_folds(problem, stratify is not None)


def _held_out(
    bank: AnyBank,
    labelled: np.ndarray,
    truth: np.ndarray,
    folds: Folds,
    wanted: Sequence[Wanted],
    asked: Asked,
    prior: np.ndarray | None = None,
) -> dict[Key, np.ndarray]:
    """(log, share, beta, form) -> inner out-of-fold answers (alphas, n, K).

    What is wanted shares each kernel's decomposition, which is what takes the time.

    Args:
        wanted: whether the ridge is of the truth's logarithm, and of the prior the share whose
            rest it fits.   asked: kernels.   prior: (n, K); None: there is none.
    """
    alphas = _alphas(bank, prior is not None)
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
        rest = np.concatenate([rest[fit] for rest in rests], axis=1)
        paths = bank.paths(labelled[fit], labelled[held], asked, rest, alphas)
        for (beta, form), path in zip(asked, paths, strict=True):
            for number, (log, share) in enumerate(wanted):
                found = path[:, :, number * width : (number + 1) * width] + starts[number][held]
                out[log, share, beta, form][:, held] = np.exp(found) if log else found
    return out
