"""The table that decides: the model, its baselines and its parts in one metric, each with the
paired difference and what it comes to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lcm_scale.config.run import SCRATCH
from lcm_scale.evaluation.metrics import METRICS, Metric
from lcm_scale.evaluation.paired import standing
from lcm_scale.evaluation.results import CEILING, TargetResult


@dataclass(frozen=True)
class Standing:
    """A row.

    Attributes:
        role: ours, best (the best baseline), plain (another one), part (of the model, or the model
            without pretraining) or ceiling.
        difference: the model minus it, None for the model itself.   word: what that shows.
        leads: it is ahead of the best baseline, or that of the model.
    """

    model: str
    role: str
    metric: Metric
    difference: Metric | None
    word: str
    leads: bool


def standings(t: TargetResult, optimistic: bool) -> list[Standing]:
    """The model first, then the best baseline, the others, the parts, what a simulator knows.

    Args: optimistic: no lead may be read from the numbers.
    """
    kind, best = METRICS[t.kind][t.deciding], t.best_baseline
    versus = standing(t.difference(best, t.deciding), kind) if best else "level"
    leader = {"better": t.model, "worse": best}.get(versus) if not optimistic else None
    words = {
        "better": f"{t.model} is ahead",
        "worse": f"{t.model} is behind",
        "level": "no difference shown",
    }
    rows = []
    for model, role in _roles(t):
        difference = t.difference(model, t.deciding) if model in t.differences else None
        shown = difference is not None and not optimistic
        word = words[standing(difference, kind)] if shown and difference else ""
        metric = t.metric(model, t.deciding)
        rows.append(Standing(model, role, metric, difference, word, model == leader))
    return rows


def _roles(t: TargetResult) -> Iterator[tuple[str, str]]:
    best, parts = t.best_baseline, (*t.parts, SCRATCH)
    yield t.model, "ours"
    if best:
        yield best, "best"
    yield from ((name, "plain") for name in t.differences if name not in (best, *parts))
    yield from ((name, "part") for name in t.differences if name in parts)
    yield from ((name, "ceiling") for name in t.results if name == CEILING)
