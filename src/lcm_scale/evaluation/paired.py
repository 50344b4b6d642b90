"""Models of the same people beside one that all are compared with, resample by resample.

In: `Draws` of each model's held-out predictions, one a seed. Out: each metric and its paired
difference from the base, both averaged over the seeds, with intervals over people. Which seeds were
run is not in the interval: the differences seed by seed stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.evaluation.intervals import Draws
from lcm_scale.evaluation.metrics import Metric, MetricKind


@dataclass(frozen=True)
class Compared:
    """One metric of one model.

    Attributes:
        value: mean over the seeds.   difference: of that mean from the base's, paired; None of the
            base itself.
        by_seed: the difference seed by seed; of the base its value.
    """

    value: Metric
    difference: Metric | None
    by_seed: tuple[float, ...]


def over_seeds(draws: Sequence[Draws]) -> Draws:
    """The mean of each metric over models of the same scans, on every resample of people.

    Raises: ValueError where they are of different scans.
    """
    for one in draws[1:]:
        one.minus(draws[0])
    names = draws[0].values
    means = {name: np.mean([one.values[name] for one in draws], axis=0) for name in names}
    return Draws(draws[0].predictions, means)


def compared(ours: Sequence[Draws], base: Sequence[Draws]) -> dict[str, Compared]:
    """Every metric of a model beside the base's.

    Args:
        ours, base: one a seed, in the same order; a model without seeds, such as a linear baseline,
            has one. The base itself where they are the same object.
    Raises: ValueError where they are of different scans.
    """
    mean, mean_base = over_seeds(ours), over_seeds(base)
    values = {metric.name: metric for metric in mean.metrics()}
    if ours is base:
        return {
            name: Compared(metric, None, tuple(float(d.values[name][0]) for d in ours))
            for name, metric in values.items()
        }
    differences = {metric.name: metric for metric in mean.minus(mean_base)}
    each = [ours[0]] * len(base) if len(ours) == 1 else ours
    return {
        name: Compared(
            metric,
            differences[name],
            tuple(
                float(a.values[name][0] - b.values[name][0])
                for a, b in zip(each, base, strict=True)
            ),
        )
        for name, metric in values.items()
    }


def standing(difference: Metric, kind: MetricKind) -> str:
    """`better` or `worse` than the base where the interval excludes zero, else `level`."""
    low, high = difference.low, difference.high
    low, high = (low, high) if kind.higher_is_better else (-high, -low)
    return "better" if low > 0 else "worse" if high < 0 else "level"
