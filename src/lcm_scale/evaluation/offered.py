"""Protocols, metrics and baselines of other packages, held to what the built-in ones promise.

A protocol's folds keep each person on one side, and say how they are to be read. A metric says
which way is better and of which targets it is. A baseline is fitted before it sees a held-out scan.
Shapes: n training scans, m test scans, E edges, C classes, B weightings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lcm_scale import checked, plugins
from lcm_scale.config import Recipe
from lcm_scale.config.run import METRICS as BUILT_IN
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.metrics import METRICS, MetricKind, Predictions
from lcm_scale.evaluation.protocols.plan import Plan
from lcm_scale.linear.problem import Folds, folds_within
from lcm_scale.plugins import Plugin


@dataclass(frozen=True)
class Training:
    """What a baseline of another package is fitted on: a target's training scans of one fold.

    Attributes:
        edges: (n, E) as stored, upper triangle by rows.
        truth: (n,) class codes below `n_classes`, or values (logarithms where the target asks).
        subject: (n,) who must not stand on both sides of an inner split.
        kind: ``class`` or ``scalar``.   n_classes: C; 1 for a scalar.
        seed: of whatever is drawn.
    """

    edges: np.ndarray
    truth: np.ndarray
    subject: np.ndarray
    kind: str
    n_classes: int
    seed: int

    @cached_property
    def inner_folds(self) -> Folds:
        """(fitted, held out) positions by person: those on which the built-in baselines are
        tuned."""
        return folds_within(self.truth, self.subject, self.seed, self.kind == "class")


# edges of held-out scans (m, E) -> (m, C) probabilities, or (m,) values
Fitted = Callable[[np.ndarray], np.ndarray]


def answer_of_plugin(name: str, training: Training, edges_test: np.ndarray) -> np.ndarray:
    """Fit another package's baseline, and only then show it the held-out scans.

    Returns: as `baselines.fit_predict`.
    Raises: InputError naming the package for whatever it raises, and for answers that are none.
    """
    plugin, fit = plugins.load_function("baselines", name)
    predict = fit(training)
    if not callable(predict):
        raise plugin.fault(f"gave a {type(predict).__name__}, expected a function of edges")
    scores = np.asarray(plugins.Guarded(plugin, predict)(edges_test), dtype=np.float64)
    is_class = training.kind == "class"
    shape = (len(edges_test), training.n_classes) if is_class else (len(edges_test),)
    if scores.shape != shape:
        raise plugin.fault(f"answers of shape {scores.shape}, expected {shape}")
    if not np.isfinite(scores).all():
        raise plugin.fault("an answer that is no number")
    if is_class and (scores.min() < 0 or np.abs(scores.sum(1) - 1).max() > 1e-3):
        raise plugin.fault("its answers are no probabilities: rows are from 0 on and sum to 1")
    return scores


@dataclass(frozen=True)
class OfferedMetric(MetricKind):
    """A metric of another package.

    Attributes: of: the targets that it measures, ``class`` or ``scalar``.
    """

    of: str


def use_metrics(recipe: Recipe) -> None:
    """Have `METRICS` hold the built-in metrics and those of other packages that a recipe names, for
    all that this process measures from now on.

    Raises: InputError as `add_metric`.
    """
    for of_kind in METRICS.values():
        for name in set(of_kind) - set(BUILT_IN):
            del of_kind[name]
    config = recipe.evaluate
    for name in {*config.metrics, config.primary} - {"usual", *BUILT_IN}:
        add_metric(name)


def add_metric(name: str) -> None:
    """Add another package's metric to `METRICS`.  Raises: InputError naming the package where it is
    none, or gives something else than a value for each weighting."""
    plugin, metric = plugins.load("metrics", name)
    if not isinstance(metric, OfferedMetric) or metric.of not in METRICS:
        raise plugin.fault(
            f"{plugin.place} is no lcm_scale.evaluation.offered.OfferedMetric of 'class' or "
            "'scalar'"
        )
    metric = replace(metric, compute=plugins.Guarded(plugin, metric.compute))
    _try(plugin, metric)
    METRICS[metric.of][name] = metric


def deciding_metric(kind: str, name: object, what: str) -> str:
    """The metric that a file says decided, another package's being added where it is installed.

    Args: kind: of the target.   what: the value, in words.
    Raises: InputError as `checked.choice` and `add_metric`.
    """
    if isinstance(name, str) and name not in METRICS[kind] and plugins.find("metrics", name):
        add_metric(name)
    if isinstance(name, str) and name.isidentifier() and name not in METRICS[kind]:
        raise InputError(
            f"{what}: no metric '{name}' is built in, and no installed package offers it"
        )
    return checked.choice(name, what, tuple(METRICS[kind]))


def _try(plugin: Plugin, metric: OfferedMetric) -> None:
    """On four scans and two weightings.  Raises: InputError where no value a weighting comes."""
    truth = np.array([0.0, 1.0, 0.0, 1.0])
    is_class = metric.of == "class"
    scores = np.array([[0.8, 0.2], [0.4, 0.6], [0.6, 0.4], [0.1, 0.9]]) if is_class else truth + 0.1
    names = ("no", "yes") if is_class else ("number",)
    who = np.arange(4)
    scans = Predictions("model", "target", metric.of, names, truth, scores, who, 0 * who, who)
    found = np.asarray(metric.compute(scans, np.array([[1.0] * 4, [2.0, 1.0, 1.0, 0.0]])))
    if found.shape != (2,):
        raise plugin.fault(
            f"a result of shape {found.shape} for weights of shape (2, 4), expected (2,)"
        )


def plan_of_plugin(name: str, recipe: Recipe, sets: ShardSets) -> Plan:
    """How another package's protocol holds people out.

    Raises: InputError naming the package for whatever it raises, where the plan does not say how it
        is to be read, or where a tested person is trained on.
    """
    plugin, make = plugins.load_function("protocols", name)
    plan = make(recipe, sets)
    if not isinstance(plan, Plan):
        raise plugin.fault(f"gave a {type(plan).__name__}, expected a Plan")
    if not plan.sentence.strip() or not plan.read_as.strip():
        raise plugin.fault("its plan has no `sentence` or no `read_as`, so nobody could read it")
    if not plan.folds or not plan.questions:
        raise plugin.fault("its plan has no folds, or asks nothing")
    for number in range(1, len(plan.folds) + 1):
        _check_fold(plugin, plan, sets, number)
    return plan


def _check_fold(plugin: Plugin, plan: Plan, sets: ShardSets, number: int) -> None:
    """Args: number: from 1.  Raises: InputError."""
    fold = plan.folds[number - 1]
    for part, positions in vars(fold).items():
        if len(positions) and (positions.min() < 0 or positions.max() >= len(plan.scans)):
            raise plugin.fault(f"fold {number}: {part} holds positions outside of its scans")
    if not len(fold.train) or not len(fold.test):
        raise plugin.fault(f"fold {number} trains or tests nobody")
    who = sets.together[plan.scans]
    trained = np.intersect1d(who[fold.train], who[fold.test])
    if len(trained):
        raise plugin.fault(f"fold {number} trains on {len(trained)} of the people that it tests")
    if np.isin(who[fold.validation], who[fold.test]).any() and not plan.optimistic:
        raise plugin.fault(
            f"fold {number} chooses the epoch by people that it tests, and its plan does not say "
            "that it is `optimistic`"
        )
