"""What site, motion, scan length, age and sex tell of each evaluated label without any matrix, and
what is left of the model's score among people who are alike in them.

The plain models meet the same folds and the same held-out scans as the model, and are fitted and
tuned on training people alone. Of a value that is not known the training mean is taken, beside a
column that says so.
Shapes: N scans of the sets, n training scans, m test scans, p columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold

from lcm_scale import progress
from lcm_scale.config.run import CONFOUNDS
from lcm_scale.data.given import SITE, given, known_names
from lcm_scale.data.manifest import ScanIndex, read_index
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.held_out import Answers, measured, predictions_of, together
from lcm_scale.evaluation.intervals import resampled
from lcm_scale.evaluation.metrics import Predictions
from lcm_scale.evaluation.nuisance import STILL
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.evaluation.questions import Question
from lcm_scale.evaluation.results import Confounds, TargetResult, ToldBy, WithinStrata
from lcm_scale.vocabulary import AGE, SEX

TOGETHER = "all together"
INNER_FOLDS = 5
COSTS = np.logspace(-2, 1, 4)  # C of the logistic regression
ALPHAS = np.logspace(-1, 3, 5)
LEAST_PROBABILITY = 1e-3  # in the inner log-loss: a class that an inner part lacks
STRATA = 3  # of a number: tertiles
RANKED = {"class": "auroc", "scalar": "pearson_r"}  # compares pairs, so that strata can be kept


@dataclass(frozen=True)
class Covariate:
    """Of every scan of the sets.

    Attributes: values: float (N,) codes, or numbers; NaN where it is not known.
    """

    name: str
    values: np.ndarray
    is_class: bool


def confounds(
    prepared: PreparedEvaluation,
    results: Sequence[TargetResult],
    answered: Sequence[Sequence[Answers]] | None = None,
) -> tuple[Confounds, ...]:
    """Of every evaluated target, by the covariates that `evaluate.confounds` names.

    Args:
        results: one a question of `prepared`, in its order.
        answered: `answers_of_fold` of each fold, where it is known already.
    """
    names = prepared.recipe.evaluate.confounds
    if not names:
        return ()
    known = covariates(prepared.opened.sets, names)
    found = []
    n_folds = len(prepared.folds)
    with progress.stage("confounds", n_folds + len(results)) as advance:
        of_folds = answered or []
        while len(of_folds) < n_folds:
            of_folds = [*of_folds, answers_of_fold(prepared, len(of_folds))]
            advance()
        questions = zip(prepared.questions, results, zip(*of_folds, strict=True), strict=True)
        for question, result, answers in questions:
            own = _own(known, question)
            p = next(p for p in result.predictions if p.model == result.model)
            told = tuple(told_by(prepared, question, p, own, answers))
            within = tuple(within_strata(prepared, p, covariate) for covariate in own)
            found.append(
                Confounds(result.target, question.kind, RANKED[question.kind], told, within)
            )
            advance(1, note=result.target)
    return tuple(found)


def covariates(sets: ShardSets, names: Sequence[str] = CONFOUNDS) -> list[Covariate]:
    """Raises: InputError where an index beside the shards cannot be read."""
    return [COVARIATES[name](sets, name) for name in names]


def _motion(sets: ShardSets, name: str) -> Covariate:
    # A few who move much would otherwise decide a straight line (docs/log.md).
    fd = np.concatenate([index.mean_fd for index in _indices(sets)]).astype(np.float64)
    return Covariate(name, np.log(np.maximum(fd, STILL)), False)


def _length(sets: ShardSets, name: str) -> Covariate:
    volumes = np.concatenate([index.volumes for index in _indices(sets)]).astype(np.float64)
    return Covariate(name, np.where(volumes > 0, volumes, np.nan), False)


def _indices(sets: ShardSets) -> list[ScanIndex]:
    return list(map(read_index, sets.folders, sets.manifests))


def _known(sets: ShardSets, name: str) -> Covariate:
    """A site, a target or a column of context; of nobody where the sets have none."""
    if name not in known_names(sets):
        return Covariate(name, np.full(sets.n_scans, np.nan), False)
    context = given([name], sets, np.arange(sets.n_scans))
    return Covariate(name, context.values[:, 0], bool(context.columns[0].categories))


COVARIATES: dict[str, Callable[[ShardSets, str], Covariate]] = {
    SITE: _known,
    "motion": _motion,
    "length": _length,
    AGE: _known,
    SEX: _known,
}


# -- what they tell --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """What can be asked about a label.

    Attributes:
        groups: covariates by name, and all that can be used together.
        why: nothing can be told by the others.   unknown: scans where it is not known, by name.
        trains: of each fold the positions of the labelled scans.
    """

    groups: dict[str, list[Covariate]]
    why: dict[str, str]
    unknown: dict[str, int]
    trains: list[np.ndarray]


def _own(known: Sequence[Covariate], question: Question) -> list[Covariate]:
    return [c for c in known if c.name != question.target.name]


def _asked(prepared: PreparedEvaluation, question: Question, own: Sequence[Covariate]) -> _Asked:
    width = (len(question.categories),) if question.kind == "class" else ()
    nobody = [{"": np.zeros((len(fold.test), *width))} for fold in prepared.folds]
    scans = predictions_of(prepared, question, nobody)[""].scan  # that are answered about
    unknown = {c.name: np.isnan(c.values[scans]) for c in own}
    why = {c.name: _useless(c.values[scans]) for c in own}
    usable = [c for c in own if not why[c.name]]
    groups = {c.name: [c] for c in usable}
    if len(usable) > 1:
        groups[TOGETHER] = usable
        unknown[TOGETHER] = np.any([unknown[c.name] for c in usable], axis=0)
    truth = question.truth(prepared.opened.sets.labels[prepared.scans])
    trains = [fold.fitted[np.isfinite(truth[fold.fitted])] for fold in prepared.folds]
    if question.target.name in prepared.plan.without_baselines or min(map(len, trains)) == 0:
        why |= dict.fromkeys(groups, "nobody at hand to train on")
        groups = {}
    return _Asked(groups, why, {name: int(each.sum()) for name, each in unknown.items()}, trains)


def answers_of_fold(prepared: PreparedEvaluation, number: int) -> list[Answers]:
    """What each covariate, then all that can be used together, answer of a fold's held-out scans:
    one a question, empty where nobody is asked.

    Args: number: the fold's, from 0.
    """
    known = covariates(prepared.opened.sets, prepared.recipe.evaluate.confounds)
    test = prepared.folds[number].test
    found = []
    for question in prepared.questions:
        asked = _asked(prepared, question, _own(known, question))
        found.append(
            {
                by: _answers(prepared, question, group, asked.trains[number], test)
                for by, group in asked.groups.items()
            }
        )
    return found


def told_by(
    prepared: PreparedEvaluation,
    question: Question,
    p: Predictions,
    own: Sequence[Covariate],
    answers: Sequence[Answers],
) -> list[ToldBy]:
    """Each of them, then all that could be used together.

    Args: p: of the model.   answers: one a fold.
    """
    asked = _asked(prepared, question, own)
    found = {
        by: ToldBy(by, unknown=asked.unknown[by], why=why) for by, why in asked.why.items() if why
    }
    ours = measured(prepared, p)
    for by, predicted in predictions_of(prepared, question, answers).items():
        theirs = measured(prepared, predicted)
        differences = ours.minus(theirs)  # type: ignore[arg-type]  # both were measured alike
        found[by] = ToldBy(by, theirs.metrics(), differences, asked.unknown[by])
    return [found[by] for by in (*(c.name for c in own), TOGETHER) if by in found]


def _useless(values: np.ndarray) -> str:
    """Why nothing can be told by it, '' where something can."""
    known = values[np.isfinite(values)]
    if not len(known):
        return "not recorded"
    return "the same for everybody" if len(np.unique(known)) == 1 else ""


def _answers(
    prepared: PreparedEvaluation,
    question: Question,
    group: Sequence[Covariate],
    train: np.ndarray,
    test: np.ndarray,
) -> np.ndarray:
    """Of a fold's test scans, by a model of the training scans.

    Args: train, test: positions in `prepared.scans`.
    """
    sets, scans = prepared.opened.sets, prepared.scans
    x, x_test = columns(group, scans[train], scans[test])
    truth = question.truth(sets.labels[scans])[train]
    people, seed = sets.together[scans[train]], prepared.recipe.evaluate.seed
    if question.kind == "class":
        return class_answers(x, truth, people, x_test, len(question.categories), seed)
    learnt = np.log(truth) if question.target.log else truth
    answer = values(x, learnt, people, x_test, seed)
    return np.exp(answer) if question.target.log else answer


def columns(
    group: Sequence[Covariate], train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, p) and (m, p): a column for each category that a training scan has, a number standardised
    over the training scans, and a column for what is not known where that occurs in training.

    Args: train, test: numbers of scans.
    """
    parts: list[np.ndarray] = []
    both = np.concatenate([train, test])
    for covariate in group:
        own = covariate.values[both]
        fitted = own[: len(train)]
        there = np.isfinite(fitted)
        if covariate.is_class:
            parts.append((own[:, None] == np.unique(fitted[there])).astype(np.float64))
        elif there.any():
            spread = fitted[there].std()
            centred = (own - fitted[there].mean()) / (spread if spread > 0 else 1.0)
            parts.append(np.where(np.isfinite(own), centred, 0.0)[:, None])
        if not there.all():
            parts.append(np.isnan(own).astype(np.float64)[:, None])
    whole = np.concatenate([np.zeros((len(both), 0)), *parts], axis=1)
    return whole[: len(train)], whole[len(train) :]


def class_answers(
    x: np.ndarray,
    truth: np.ndarray,
    people: np.ndarray,
    x_test: np.ndarray,
    n_classes: int,
    seed: int,
) -> np.ndarray:
    """(m, n_classes) probabilities by a logistic regression, C by the inner log-loss."""
    codes = truth.astype(np.int64)
    rows = np.arange(len(codes))
    best, best_cost = -np.inf, COSTS[0]
    splits = _inner_folds(people, seed)
    for cost in COSTS if splits else ():
        inner = np.zeros((len(codes), n_classes))
        for fit, held in splits:
            inner[held] = _logistic(x[fit], codes[fit], x[held], n_classes, cost)
        likelihood = float(np.log(np.maximum(inner[rows, codes], LEAST_PROBABILITY)).mean())
        if likelihood > best:
            best, best_cost = likelihood, cost
    return _logistic(x, codes, x_test, n_classes, best_cost)


def _logistic(
    x: np.ndarray, codes: np.ndarray, x_test: np.ndarray, n_classes: int, cost: float
) -> np.ndarray:
    present = np.unique(codes)
    found = np.zeros((len(x_test), n_classes))
    if len(present) == 1 or not x.shape[1]:
        found[:] = np.bincount(codes, minlength=n_classes) / len(codes)
        return found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=cost, max_iter=200).fit(x, codes)
    found[:, present] = model.predict_proba(x_test)
    return found


def values(
    x: np.ndarray, truth: np.ndarray, people: np.ndarray, x_test: np.ndarray, seed: int
) -> np.ndarray:
    """(m,) by a ridge regression, alpha by the inner squared error."""
    if not x.shape[1]:
        return np.full(len(x_test), truth.mean())
    splits = _inner_folds(people, seed)
    errors = [
        sum(
            float(
                ((Ridge(alpha).fit(x[fit], truth[fit]).predict(x[held]) - truth[held]) ** 2).sum()
            )
            for fit, held in splits
        )
        for alpha in ALPHAS
    ]
    return np.asarray(Ridge(ALPHAS[int(np.argmin(errors))]).fit(x, truth).predict(x_test))


def _inner_folds(people: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """By person; none where one person is all there is."""
    count = min(INNER_FOLDS, len(np.unique(people)))
    if count < 2:
        return []
    return list(GroupKFold(count, shuffle=True, random_state=seed).split(people, groups=people))


# -- among people who are alike --------------------------------------------------------------------


def within_strata(
    prepared: PreparedEvaluation, p: Predictions, covariate: Covariate
) -> WithinStrata:
    """Of a model's predictions, in the metric of `RANKED`."""
    p = p.once()
    stratum = strata(covariate, p.scan)
    rows = np.flatnonzero(stratum >= 0)
    count = len(np.unique(stratum[rows]))
    if count < 2:
        return WithinStrata(
            covariate.name, why="not recorded" if not count else "one stratum alone"
        )
    whole = p.of(rows)
    # Pairs are compared within a fold: a fold and stratum together are one here.
    inside = replace(whole, fold=whole.fold * (stratum.max() + 1) + stratum[rows])
    config, sets = prepared.recipe.evaluate, prepared.opened.sets
    drawn = [
        resampled(each, config.bootstrap, config.seed, together(sets, each), (RANKED[p.kind],))
        for each in (inside, whole)
    ]
    (own,), (plain,), (change,) = drawn[0].metrics(), drawn[1].metrics(), drawn[0].minus(drawn[1])
    return WithinStrata(covariate.name, count, own, plain, change)


def strata(covariate: Covariate, scans: np.ndarray) -> np.ndarray:
    """int64 (n,) of each scan its category, or its tertile among these scans; -1 not known."""
    own = covariate.values[scans]
    known = np.isfinite(own)
    found = np.full(len(own), -1, np.int64)
    if not known.any():
        return found
    if covariate.is_class:
        found[known] = own[known].astype(np.int64)
        return found
    cuts = np.unique(np.quantile(own[known], np.arange(1, STRATA) / STRATA))
    found[known] = np.searchsorted(cuts, own[known], side="left")
    return found
