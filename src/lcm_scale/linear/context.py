"""What is known of a scan beside its matrix when it is asked about: site, eye status, sex, age.

A similarity is multiplied by 1 + .5 for each category that two scans share, which is a common
weight vector plus a partly pooled deviation for each category; or what is known is added to the
features, each category a column, each number one. Both are linear, so both collapse to weights.
Shapes: n scans, J columns, of which some are categories and some numbers; D added features: a
category each, a number each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

SHARED = 0.5  # what a shared category adds to a similarity of 1
# A category with fewer people is unknown: weights fitted on a handful of people are those people.
LEAST_PEOPLE = 10


@dataclass(frozen=True)
class KnownColumn:
    """One column of what is known.

    Attributes:
        categories: by code; empty of a number.
        centre, scale: of a number, over training scans.
        shares: of each category among the training scans that know it; empty of a number.
    """

    name: str
    categories: tuple[str, ...]
    centre: float = 0.0
    scale: float = 1.0
    shares: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many added features it is."""
        return max(1, len(self.categories))


@dataclass(frozen=True)
class Context:
    """What is known of some scans.

    Attributes:
        columns: J.
        values: float (n, J): codes of categories, numbers in their own unit, NaN where not known.
    """

    columns: tuple[KnownColumn, ...]
    values: np.ndarray

    @classmethod
    def nothing(cls, n_scans: int) -> Context:
        """Of scans of which nothing is known."""
        return cls((), np.zeros((n_scans, 0)))

    def of(self, scans: np.ndarray) -> Context:
        """Of some of the scans."""
        return replace(self, values=self.values[scans])

    def without(self, name: str) -> Context:
        """Without a column: nobody is told what is asked."""
        return self.only([column.name for column in self.columns if column.name != name])

    def only(self, names: Collection[str]) -> Context:
        """With some columns alone."""
        kept = [place for place, column in enumerate(self.columns) if column.name in names]
        return Context(tuple(self.columns[place] for place in kept), self.values[:, kept])

    def fitted(self, subject: np.ndarray) -> Context:
        """With the centres and scales of these scans' numbers, the shares of their categories, and
        rare categories unknown.

        Args: subject: (n,) of training scans.
        """
        columns, values = [], self.values.copy()
        for place, column in enumerate(self.columns):
            own = values[:, place]
            if column.categories:
                for code in range(len(column.categories)):
                    if len(np.unique(subject[own == code])) < LEAST_PEOPLE:
                        own[own == code] = np.nan
                counts = [int((own == code).sum()) for code in range(len(column.categories))]
                shares = tuple(count / max(sum(counts), 1) for count in counts)
                column = replace(column, shares=shares)
            elif np.isfinite(own).any():
                centre, scale = float(np.nanmean(own)), float(np.nanstd(own))
                column = replace(column, centre=centre, scale=max(scale, 1e-9))
            columns.append(column)
        return Context(tuple(columns), values)

    @property
    def indicators(self) -> np.ndarray:
        """(n, D) 1 in the column of a scan's category; 0 in a number's."""
        parts = [np.zeros((len(self.values), 0))]
        for place, column in enumerate(self.columns):
            own = self.values[:, place, None]
            codes = np.arange(len(column.categories)) if column.categories else np.array([np.nan])
            parts.append((own == codes).astype(float))
        return np.concatenate(parts, axis=1)

    @property
    def features(self) -> np.ndarray:
        """(n, D) what is added: a scan's category less the categories' shares, numbers about their
        centre over their scale. Where not known all are 0, as of the average training scan."""
        found, first = self.indicators, 0
        for place, column in enumerate(self.columns):
            own, end = self.values[:, place], first + column.width
            if column.categories:
                known = found[:, first:end].any(1, keepdims=True)
                found[:, first:end] -= known * np.array(column.shares or [0.0])
            else:
                found[:, first] = np.nan_to_num((own - column.centre) / column.scale)
            first = end
        return found

    @property
    def mean_square(self) -> float:
        """Mean square norm of the added features, by which their products are divided."""
        return max(float((self.features**2).sum(1).mean()), 1e-12)

    @property
    def codes(self) -> np.ndarray:
        """Float (n, categorical columns), NaN where not known."""
        return self.values[:, [bool(column.categories) for column in self.columns]]


def shared(left: Context, right: Context) -> np.ndarray:
    """(m, n) by what a similarity is multiplied: 1, and `SHARED` more for each category in
    common; not known is shared with nobody."""
    both = left.codes[:, None] == right.codes  # NaN equals nothing
    return np.asarray(1 + SHARED * both.sum(2))


def added(left: Context, right: Context) -> np.ndarray:
    """(m, n) inner products of the added features."""
    return np.asarray(left.features @ right.features.T)


def matched(column: KnownColumn, values: np.ndarray, categories: Sequence[str]) -> np.ndarray:
    """Values (n,) of a set in the codes of a column, NaN where it does not know the category.

    Args: categories: of the set, by its codes; empty of a number.
    """
    if not column.categories:
        return np.asarray(values, dtype=np.float64)
    place = {name: code for code, name in enumerate(column.categories)}
    codes = np.array([place.get(name, np.nan) for name in categories] + [np.nan])
    known = np.where(np.isfinite(values), values, len(categories)).astype(np.int64)
    return np.asarray(codes[known])
