"""Who is in the data twice, told by the matrices themselves (Finn et al. 2015), not by ids.

In come the edges of one or two sets, a block at a time; out go pairs of people who are probably
one.
A scan's fingerprint is its edges without the set's mean, at unit length, so that the product of two
is their correlation. Two scans that correlate by `SAME` or more are one scan: of 607,000 pairs of
different people in native ABIDE the closest has .52, in its Auckland version .71, but for three
pairs with .87 to .97, whose head motion agrees to ten digits too. Processed otherwise, one scan is
found as each other's best match by a clear `MARGIN`: four in ten of the 989 people of both
versions, and nobody wrongly (docs/data.md, People across sets).

Where many scans make the products costly, the edges are first projected onto random directions:
memory and time stay bounded, and `MARGIN` grows with the noise that this brings.
Shapes: n, m scans, E edges, K directions, P people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

SAME = 0.8
MARGIN = 0.1
NOISE = 3.0  # standard deviations of the projection's error that the margin grows by
LEAST_EDGES = 435  # of 30 regions: with fewer, people are alike by chance
LEAST_MATCH = 0.2  # correlation of two scans that may be one, processed otherwise
# A smaller set is centred on the mean of both, and too small to say what a clear match is.
LEAST_PEOPLE = 20
MOST_PRODUCTS = 4e12  # multiplications: a minute or two on one core
MOST_NUMBERS = 2.5e8  # of all fingerprints together: 1 GB
LEAST_DIRECTIONS = 256
BLOCK = 1024  # people that are compared at once
MOST_PAIRS = 1000  # that are kept: beyond, something else is wrong with the data

Blocks = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Scans:
    """The scans of one set.

    Attributes:
        blocks: the edges (b, E) in order, anew at each call.
        people: (n,) the hashed id of each scan's person; a person's scans stand together.
    """

    blocks: Blocks
    people: Sequence[str]


@dataclass(frozen=True)
class Pair:
    """Two hashed ids whose scans are probably of one person, and their scans' correlation."""

    first: str
    second: str
    r: float


@dataclass(frozen=True)
class Fingerprints:
    """Rows of unit length (n, K), everybody whose they are, and where each one's first row
    stands."""

    rows: np.ndarray
    people: tuple[str, ...]
    starts: np.ndarray

    def part(self, first: int) -> Fingerprints:
        """`BLOCK` people from one on."""
        last = min(first + BLOCK, len(self.people))
        begin = self.starts[first]
        end = self.starts[last] if last < len(self.people) else len(self.rows)
        return Fingerprints(
            self.rows[begin:end], self.people[first:last], self.starts[first:last] - begin
        )


def alike_within(scans: Scans, most_products: float = MOST_PRODUCTS) -> list[Pair] | None:
    """Pairs of different people of one set with nearly the same scan, the closest first.

    Args: most_products: multiplications that it may take.
    Returns: None where nothing can be said: too few regions, or too many scans.
    """
    n_edges = _n_edges(scans)
    directions = _directions(len(scans.people), len(scans.people), n_edges, most_products)
    if n_edges < LEAST_EDGES or directions < LEAST_DIRECTIONS:
        return None
    prints = _fingerprints(scans, _mean(scans), directions)
    return _close(prints, prints)


def alike_across(first: Scans, second: Scans) -> list[Pair] | None:
    """Pairs of people, one of each set, who are probably one: nearly the same scan, or each other's
    best match by a margin. People of one id are not named.

    Both sets' edges stand in one order of regions.
    Returns: None where nothing can be said: too few regions, or too many scans.
    """
    n_edges = _n_edges(first)
    directions = _directions(len(first.people), len(second.people), n_edges, MOST_PRODUCTS)
    if n_edges < LEAST_EDGES or directions < LEAST_DIRECTIONS:
        return None
    a, b = (_fingerprints(s, _centre(s, first, second), directions) for s in (first, second))
    margin = MARGIN + (NOISE * np.sqrt(2 / directions) if directions < n_edges else 0.0)
    found = _close(a, b)
    if min(len(a.people), len(b.people)) >= LEAST_PEOPLE:
        found += _matched(a, b, margin)
    pairs = {(pair.first, pair.second): pair for pair in found}
    return sorted(pairs.values(), key=lambda pair: -pair.r)


def _n_edges(scans: Scans) -> int:
    return next(scans.blocks()).shape[1]


def _directions(n: int, m: int, n_edges: int, most_products: float) -> int:
    """How many numbers a fingerprint may have."""
    return int(min(n_edges, most_products / (n * m), MOST_NUMBERS / (n + m)))


def _mean(*sets: Scans) -> np.ndarray:
    total = sum(block.sum(0, dtype=np.float64) for s in sets for block in s.blocks())
    return np.asarray(total / sum(len(s.people) for s in sets), dtype=np.float32)


def _centre(scans: Scans, *both: Scans) -> np.ndarray:
    return _mean(scans) if len(set(scans.people)) >= LEAST_PEOPLE else _mean(*both)


def _fingerprints(scans: Scans, mean: np.ndarray, directions: int) -> Fingerprints:
    rows = np.empty((len(scans.people), directions), dtype=np.float32)
    n_edges = len(mean)
    random = np.random.default_rng(0)
    projection = None
    if directions < n_edges:
        projection = random.standard_normal((n_edges, directions), dtype=np.float32)
    start = 0
    for block in scans.blocks():
        z = block.astype(np.float32) - mean
        z -= z.mean(1, keepdims=True)
        z = z if projection is None else z @ projection
        length = np.linalg.norm(z, axis=1, keepdims=True)
        rows[start : start + len(z)] = z / np.where(length > 0, length, 1.0)
        start += len(z)
    people = tuple(dict.fromkeys(scans.people))
    place = {person: i for i, person in reversed(list(enumerate(scans.people)))}
    return Fingerprints(rows, people, np.array([place[person] for person in people]))


def _blocks_of_people(a: Fingerprints, b: Fingerprints) -> Iterator[tuple[int, int, np.ndarray]]:
    """(first of a, first of b, (P, P') the largest correlation of a scan of one person with a scan
    of the other)."""
    for i in range(0, len(a.people), BLOCK):
        left = a.part(i)
        for j in range(i if a is b else 0, len(b.people), BLOCK):
            right = b.part(j)
            products = left.rows @ right.rows.T
            products = np.maximum.reduceat(products, left.starts, axis=0)
            yield i, j, np.maximum.reduceat(products, right.starts, axis=1)


def _close(a: Fingerprints, b: Fingerprints) -> list[Pair]:
    """Everybody whose scans correlate by `SAME` or more, but for people of one id."""
    pairs: list[Pair] = []
    for i, j, r in _blocks_of_people(a, b):
        for p, q in zip(*np.nonzero(r >= SAME), strict=True):
            one, other = a.people[i + p], b.people[j + q]
            if one != other and not (a is b and i + p > j + q):
                pairs.append(Pair(one, other, float(r[p, q])))
        pairs = sorted(pairs, key=lambda pair: -pair.r)[:MOST_PAIRS]
    return pairs


def _matched(a: Fingerprints, b: Fingerprints, margin: float) -> list[Pair]:
    """Each other's best match, both by the margin over the second best."""
    best_a, best_b = _Best(len(a.people)), _Best(len(b.people))
    for i, j, r in _blocks_of_people(a, b):
        best_a.see(i, j, r)
        best_b.see(j, i, r.T)
    pairs = []
    for p, q in enumerate(best_a.who.tolist()):
        mutual = best_b.who[q] == p
        clear = min(best_a.lead(p), best_b.lead(q)) >= margin and best_a.first[p] >= LEAST_MATCH
        if mutual and clear and a.people[p] != b.people[q]:
            pairs.append(Pair(a.people[p], b.people[q], float(best_a.first[p])))
    return pairs


class _Best:
    """The best and second best match of each person, while blocks go by."""

    def __init__(self, n: int) -> None:
        self.first = np.full(n, -1.0)
        self.second = np.full(n, -1.0)
        self.who = np.zeros(n, dtype=np.int64)

    def see(self, start: int, offset: int, r: np.ndarray) -> None:
        here = slice(start, start + len(r))
        new = r.max(1)
        runner_up = np.partition(r, -2, axis=1)[:, -2] if r.shape[1] > 1 else np.full(len(r), -1.0)
        lower = np.minimum(self.first[here], new)
        self.second[here] = np.max([lower, self.second[here], runner_up], axis=0)
        self.who[here] = np.where(new > self.first[here], r.argmax(1) + offset, self.who[here])
        self.first[here] = np.maximum(self.first[here], new)

    def lead(self, person: int) -> float:
        return float(self.first[person] - self.second[person])
