"""What a start is worth: runs that go on from a checkpoint beside those from scratch.

In: a sweep's rows. Out: one `Started` a checkpoint, size and number of people.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lcm_scale.laws.collect import Configuration


@dataclass(frozen=True)
class Started:
    """Runs from one start beside those from scratch that are alike in everything else.

    Attributes:
        start: `init_from` of the runs.   pairs: how many such pairs of runs.
        loss, scratch: means of the pairs.   lower: pairs in which the start has the lower loss.
    """

    start: str
    size: str
    people: int
    label_share: float
    pairs: int
    loss: float
    scratch: float
    lower: int


def starts(rows: Sequence[Configuration]) -> list[Started]:
    """Every start at every size and number of people and of labelled ones; nothing where the sweep
    has none beside runs from scratch."""
    scratch = {_but_for_start(row): row.loss for row in rows if not row.start}
    pairs: dict[tuple[str, str, int, float], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        other = scratch.get(_but_for_start(row))
        if row.start and other is not None:
            pairs[(row.start, row.size, row.people, row.label_share)].append((row.loss, other))
    return [
        Started(
            *key,
            len(of),
            float(np.mean([loss for loss, _ in of])),
            float(np.mean([loss for _, loss in of])),
            sum(loss < other for loss, other in of),
        )
        for key, of in pairs.items()
    ]


def _but_for_start(row: Configuration) -> tuple[Any, ...]:
    settings = tuple(o for o in row.settings if not o.startswith("init_from="))
    return (row.size, row.people, row.epochs, row.seed, row.draw, row.label_share, settings)
