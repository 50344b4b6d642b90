"""The people whom a model was trained on, as far as a new scan can be compared with them.

Their mean edges, how far they are from that mean themselves, and the range of their scans' lengths,
repetition times and sizes. No person is stored. `training.cohort` fits it, every checkpoint and
every exported file of ours holds it, `predict` reads it. Models of earlier versions have none.
Shapes: n scans, E edges.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from lcm_scale import checked
from lcm_scale.data.quality import distance_from
from lcm_scale.errors import InputError
from lcm_scale.limits import MOST_REGIONS

PERCENTS = 101  # quantiles: 0 %, 1 %, ... 100 %
FAR = 99  # of the training people's own distances, in percent: a scan above it is far from them
MOST_SCANS = 2**53
STORED = "<f2"  # of a mean: its rounding moves a distance by about .0001

Range = tuple[float, float]


@dataclass(frozen=True)
class Cohort:
    """What is known of the training people together.

    Attributes:
        scans, people: how many it is fitted on.
        mean: (E,) mean edges in the model's order of regions, as the bytes of `STORED`.
        distances: `PERCENTS` quantiles of the scans' own distances, each from the mean of the other
            people: what a new person's distance is compared with.
        size: lowest and highest mean |r|.
        volumes, seconds: range of lengths, and of repetition times; None where no scan has one.
        missing: atlas indices of regions without data in some training scan, ascending.
        studies: what the ids of the people are hashed with beside the salt, sorted.
    """

    scans: int
    people: int
    mean: bytes
    distances: tuple[float, ...]
    size: Range
    volumes: Range | None
    seconds: Range | None
    missing: tuple[int, ...]
    studies: tuple[str, ...]

    @property
    def threshold(self) -> float:
        """The distance above which a scan is far from the training people."""
        return self.distances[FAR]

    def distance(self, edges: np.ndarray) -> np.ndarray:
        """(n,) one minus the correlation of each scan's edges (n, E) with the mean, NaN where they
        do not differ."""
        mean = np.frombuffer(self.mean, STORED).astype(np.float64)
        return distance_from(edges.astype(np.float64), mean)

    def percent(self, distance: np.ndarray) -> np.ndarray:
        """(n,) of the training scans, how many in a hundred are nearer to the mean."""
        found = np.searchsorted(np.array(self.distances), distance, side="right") - 1.0
        return np.where(np.isfinite(distance), np.clip(found, 0, PERCENTS - 1), np.nan)

    def moved(self, place: np.ndarray) -> Cohort:
        """With edge i at `place[i]` (E,)."""
        mean = np.frombuffer(self.mean, STORED)
        there = np.empty_like(mean)
        there[place] = mean
        return replace(self, mean=there.tobytes())

    def to_json(self) -> dict[str, object]:
        return asdict(self) | {"mean": base64.b64encode(self.mean).decode("ascii")}

    @classmethod
    def from_json(cls, value: object, name: str, n_edges: int) -> Cohort:
        """Raises: InputError where the value is not what `to_json` gives for so many edges."""
        own = checked.members(value, name, cls.__dataclass_fields__)
        unequal = InputError(f"{name}.mean: expected {n_edges} finite numbers")
        try:
            mean = base64.b64decode(checked.text(own["mean"], f"{name}.mean"), validate=True)
        except (binascii.Error, ValueError) as error:
            raise unequal from error
        if len(mean) != n_edges * np.dtype(STORED).itemsize:
            raise unequal
        if not np.isfinite(np.frombuffer(mean, STORED)).all():
            raise unequal
        distances = checked.entries(
            own["distances"],
            f"{name}.distances",
            lambda entry, inner: checked.number(entry, inner, -1, 3),
            PERCENTS,
        )
        if list(distances) != sorted(distances):
            raise InputError(f"{name}.distances: expected them ascending")
        return cls(
            scans=checked.whole(own["scans"], f"{name}.scans", 1, MOST_SCANS),
            people=checked.whole(own["people"], f"{name}.people", 1, MOST_SCANS),
            mean=mean,
            distances=distances,
            size=_range(own, "size", name),
            volumes=_range_or_none(own, "volumes", name),
            seconds=_range_or_none(own, "seconds", name),
            missing=checked.entries(
                own["missing"],
                f"{name}.missing",
                lambda entry, inner: checked.whole(entry, inner, -(2**31), 2**31),
            )[:MOST_REGIONS],
            studies=checked.entries(own["studies"], f"{name}.studies", checked.text),
        )


def _range(own: Mapping[str, object], key: str, name: str) -> Range:
    low, high = checked.entries(own[key], f"{name}.{key}", checked.number, 2)
    return low, high


def _range_or_none(own: Mapping[str, object], key: str, name: str) -> Range | None:
    return None if own[key] is None else _range(own, key, name)
