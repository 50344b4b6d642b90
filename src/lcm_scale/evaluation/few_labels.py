"""The headline with few labelled people: a model a draw and fold, baselines on the same people, and
intervals over people and draws.

The bootstrap draws people and, independently, draws of labels: the weight of a prediction is how
often its person was drawn times how often its draw of labels was. Each draw trains with a seed of
its own, so that the seed is covered with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.evaluation.intervals import CHUNK, interval, weighted
from lcm_scale.evaluation.metrics import Metric, Predictions
from lcm_scale.evaluation.results import LabelPoint


@dataclass(frozen=True)
class Drawn:
    """One model's predictions at one number of labels.

    Attributes: predictions: of all draws; `fold` tells draws apart as well.   draw: (N,) of each.
    """

    predictions: Predictions
    draw: np.ndarray


def point_of(
    answers: Mapping[str, Drawn],
    model: str,
    count: int,
    n_bootstrap: int,
    seed: int,
    together: np.ndarray | None = None,
) -> LabelPoint:
    """Metrics, and paired differences of `model` minus each other one, at one number of labels.

    Args:
        answers: name -> predictions of the same scans in the same order.   count: labelled people.
        together: (N,) who is drawn together, where that is more than a person's scans.
    """
    values = {
        name: weighted(drawn.predictions, _weightings(drawn, n_bootstrap, seed, together))
        for name, drawn in answers.items()
    }

    def metrics(found: Mapping[str, np.ndarray], p: Predictions) -> tuple[Metric, ...]:
        scans, people = (len(np.unique(each)) for each in (p.scan, p.subject))
        return tuple(
            Metric(name, float(each[0]), *interval(each), scans, people)
            for name, each in found.items()
        )

    def minus(other: str) -> dict[str, np.ndarray]:
        return {name: values[model][name] - each for name, each in values[other].items()}

    own = answers[model].predictions
    return LabelPoint(
        label=str(count),
        count=count,
        draws=len(np.unique(answers[model].draw)),
        results={name: metrics(values[name], own) for name in answers},
        differences={name: metrics(minus(name), own) for name in answers if name != model},
    )


def _weightings(
    drawn: Drawn, n_bootstrap: int, seed: int, together: np.ndarray | None
) -> Iterator[np.ndarray]:
    """(1, N) of ones, then (B, N): of people times of draws."""
    people = drawn.predictions.subject if together is None else together
    places = [np.unique(of, return_inverse=True)[1] for of in (people, drawn.draw)]
    rng = np.random.default_rng(seed)
    yield np.ones((1, len(drawn.draw)))
    size = max(1, CHUNK // max(1, len(drawn.draw)))
    for start in range(0, n_bootstrap, size):
        weights = np.ones((min(size, n_bootstrap - start), len(drawn.draw)))
        for place in places:
            n = place.max() + 1
            weights *= rng.multinomial(n, np.full(n, 1 / n), len(weights))[:, place]
        yield weights


def joined(parts: Sequence[Predictions], folds: int) -> Drawn:
    """The predictions of several draws as one.

    Args:
        parts: one a draw, whose folds are numbered from 1 on.   folds: of a draw.
    """
    first = parts[0]
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("truth", "scores", "subject", "scan")
    }
    fold = np.concatenate([part.fold + number * folds for number, part in enumerate(parts)])
    draw = np.repeat(np.arange(len(parts)), [len(part.truth) for part in parts])
    made = Predictions(
        first.model, first.target, first.kind, first.categories, fold=fold, **columns
    )
    return Drawn(made, draw)
