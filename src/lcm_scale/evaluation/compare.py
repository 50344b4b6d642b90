"""Two evaluated runs beside each other: every metric of the second less that of the first, paired
over the people whom both were asked about.

Scans are numbered in the order of a run's own sets, so where the sets differ a person is known by
the hashed id and a scan by its place among the person's own. Whoever is in one run alone, or has
another answer there, is left out and counted. Runs on other folds are not paired: they were trained
on other people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.config.run import may_differ
from lcm_scale.errors import InputError
from lcm_scale.evaluation.evaluated import Evaluated, read_evaluated
from lcm_scale.evaluation.intervals import resampled
from lcm_scale.evaluation.metrics import METRICS, Metric, MetricKind, Predictions
from lcm_scale.evaluation.paired import standing
from lcm_scale.evaluation.several import holm

SEED = 0
SAME_NUMBER = 1e-6  # of an answer that two sets hold, relative
Key = tuple[str, int, int]  # whose prediction, of which scan, the how-manyth of it


@dataclass(frozen=True)
class Row:
    """One metric of one target.

    Attributes:
        first, second: of the two runs, on the people whom both have.
        difference: second less first, paired.
        standing: of the second, `better`, `worse` or `level`.   deciding: it says who wins.
        p_holm: that a deciding difference is zero, corrected by Holm over the targets; else NaN.
    """

    target: str
    metric: str
    first: Metric
    second: Metric
    difference: Metric
    standing: str
    deciding: bool
    p_holm: float


@dataclass(frozen=True)
class People:
    """Whom a target's comparison is about.

    Attributes:
        first, second: how many each run was asked about.   shared: who is compared.
        first_alone, second_alone: in one run only.
        other_scans: in both, with another number of scans.
        other_answers: in both, with another answer.
    """

    first: int
    second: int
    shared: int
    first_alone: int
    second_alone: int
    other_scans: int
    other_answers: int

    @property
    def all_compared(self) -> bool:
        return self.shared == self.first == self.second


@dataclass(frozen=True)
class Told:
    """A target beside its rows.

    Attributes: unit: of a scalar, or ''.   confounded: why it must not be believed, or ''.
    """

    kind: str
    unit: str
    confounded: str
    people: People


@dataclass(frozen=True)
class Compared:
    """Two runs, compared.

    Attributes:
        first, second: names, never the same.   headline: the target that stands first.
        rows: by target, the metrics in their order.   targets: of those rows.
        simulated: the scans are.   optimistic: why the numbers are too good, or ''.
        left_out: targets that were not compared -> why.
        tested: (names, fingerprints) of the evaluated sets, of each run.
        sets: all sets by name with their fingerprints, of each run.
        protocols: of each run, in a sentence.
        recipes: dotted keys of the recipes that differ -> (in the first, in the second).
        grouped: a column kept people together whom this comparison draws one by one.
    """

    first: str
    second: str
    headline: str
    rows: tuple[Row, ...]
    targets: Mapping[str, Told]
    simulated: bool
    optimistic: str
    left_out: Mapping[str, str]
    tested: tuple[tuple[str, str], tuple[str, str]]
    sets: tuple[Mapping[str, str], Mapping[str, str]]
    protocols: tuple[str, str]
    recipes: Mapping[str, tuple[Any, Any]]
    grouped: str

    def of(self, target: str) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.target == target)

    @property
    def deciding(self) -> tuple[Row, ...]:
        """One a target, the headline's first."""
        found = [row for row in self.rows if row.deciding]
        return tuple(sorted(found, key=lambda row: row.target != self.headline))

    def kind(self, row: Row) -> MetricKind:
        return METRICS[self.targets[row.target].kind][row.metric]


def compare(first: Path, second: Path, bootstrap: int = 2000) -> Compared:
    """Compare two runs.

    Args: bootstrap: resamples of people.
    Raises: InputError where a folder holds no evaluation, or no target can be paired: none is in
        both, nobody is, or the folds differ.
    """
    mine, other = read_evaluated(second), read_evaluated(first)
    named = [name for name in other.predictions if name in mine.predictions]
    if not named:
        raise InputError(
            f"{second}: no target is in both runs ({', '.join(mine.predictions)} here, "
            f"{', '.join(other.predictions)} in {first})"
        )
    left_out = {
        name: "in one of the two alone"
        for name in [*mine.predictions, *other.predictions]
        if name not in named
    }
    rows: list[Row] = []
    targets: dict[str, Told] = {}
    for name in named:
        try:
            ours, theirs, people = _paired(mine, other, name)
        except InputError as error:
            left_out[name] = str(error)
            continue
        about = mine.targets[name], other.targets[name]
        confounded = next((t["confounded"] for t in about if t.get("confounded")), "")
        targets[name] = Told(ours.kind, about[0].get("unit", ""), confounded, people)
        drawn, base = (resampled(each, bootstrap, SEED) for each in (ours, theirs))
        for a, b, less in zip(base.metrics(), drawn.metrics(), drawn.minus(base), strict=True):
            found = standing(less, METRICS[ours.kind][less.name])
            deciding = less.name == about[0]["deciding"]
            rows.append(Row(name, less.name, a, b, less, found, deciding, np.nan))
    if not rows:
        raise InputError(left_out[named[0]])
    return Compared(
        *_names(other, mine),
        headline=mine.headline if mine.headline in targets else rows[0].target,
        rows=tuple(_corrected(rows)),
        targets=targets,
        simulated=mine.simulated or other.simulated,
        optimistic=other.optimistic or mine.optimistic,
        left_out=left_out,
        tested=(other.tested, mine.tested),
        sets=(other.sets, mine.sets),
        protocols=(other.protocol, mine.protocol),
        recipes=_differing(other.recipe, mine.recipe),
        grouped=str(mine.recipe.get("evaluate.group") or other.recipe.get("evaluate.group") or ""),
    )


def _corrected(rows: list[Row]) -> Iterator[Row]:
    """With what the deciding differences come to over all targets."""
    p_values = {row.target: row.difference.p for row in rows if row.deciding}
    adjusted = holm({name: np.nan if p is None else p for name, p in p_values.items()})
    for row in rows:
        yield replace(row, p_holm=adjusted[row.target]) if row.deciding else row


def _names(first: Evaluated, second: Evaluated) -> tuple[str, str]:
    if first.name != second.name:
        return first.name, second.name
    return f"{first.name} (first)", f"{second.name} (second)"


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys of two recipes that make another run; nothing where one of them is not written down."""
    if not first or not second:
        return {}
    free = may_differ() | {"name"}
    return {
        key: (first.get(key), second.get(key))
        for key in sorted({*first, *second} - free)
        if first.get(key) != second.get(key)
    }


# -- whom both were asked about --------------------------------------------------------------------


def _paired(
    here: Evaluated, there: Evaluated, name: str
) -> tuple[Predictions, Predictions, People]:
    """Both runs' predictions of the same scans in the same order.

    Raises: InputError where nobody is in both, or the answers or folds are others.
    """
    mine, other = here.predictions[name], there.predictions[name]
    if mine.kind != other.kind or mine.categories != other.categories:
        raise InputError(
            f"{here.folder}: {name} has other categories than in {there.folder} "
            f"({', '.join(mine.categories)}; {', '.join(other.categories)})"
        )
    by_number = {*zip(mine.subject, mine.scan, strict=True)} == {
        *zip(other.subject, other.scan, strict=True)
    }
    ours, theirs = _places(mine, by_number), _places(other, by_number)
    if max(time for *_, time in ours) != max(time for *_, time in theirs):
        raise _other_folds(here, there, name)
    scans_of, others_scans = _scans_of(ours), _scans_of(theirs)
    both = scans_of.keys() & others_scans.keys()
    if not both:
        raise InputError(
            f"{here.folder}: {name} was asked of other people than in {there.folder}: nobody is in "
            "both; people are known by their hashed ids, so shard both in one project"
        )
    same = {who for who in both if scans_of[who] == others_scans[who]}
    keys = [key for key in ours if key[0] in same]
    a = mine.of(np.array([ours[key] for key in keys], np.int64))
    b = other.of(np.array([theirs[key] for key in keys], np.int64))
    unlike = (
        a.truth != b.truth
        if a.kind == "class"
        else ~np.isclose(a.truth, b.truth, rtol=SAME_NUMBER, atol=0)
    )
    changed = np.unique(a.subject[unlike])
    keep = ~np.isin(a.subject, changed)
    if not keep.any():
        raise InputError(
            f"{here.folder}: {name} has other scans or answers than in {there.folder} of all "
            f"{len(both)} people who are in both"
        )
    a, b = a.of(keep), b.of(keep)
    if not _same_parts(a.fold, b.fold):
        raise _other_folds(here, there, name)
    people = People(
        first=len(others_scans),
        second=len(scans_of),
        shared=len(same) - len(changed),
        first_alone=len(others_scans) - len(both),
        second_alone=len(scans_of) - len(both),
        other_scans=len(both) - len(same),
        other_answers=len(changed),
    )
    return a, replace(b, scan=a.scan, truth=a.truth), people


def _places(p: Predictions, by_number: bool) -> dict[Key, int]:
    """Where each prediction stands, under the name that it has in both runs.

    Args: by_number: scans keep their numbers; else each is the first, second ... of its person.
    """
    own: dict[str, dict[int, int]] = {}
    times: Counter[tuple[str, int]] = Counter()
    places: dict[Key, int] = {}
    for place, (who, scan) in enumerate(zip(p.subject.tolist(), p.scan.tolist(), strict=True)):
        scans = own.setdefault(who, {})
        which = scan if by_number else scans.setdefault(scan, len(scans))
        places[who, which, times[who, scan]] = place
        times[who, scan] += 1
    return places


def _scans_of(places: Mapping[Key, int]) -> dict[str, set[tuple[int, int]]]:
    """Of each person which scans there are, and how often each."""
    found: dict[str, set[tuple[int, int]]] = {}
    for who, which, time in places:
        found.setdefault(who, set()).add((which, time))
    return found


def _same_parts(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two numberings part the scans alike, whatever the numbers are."""
    pairs = len(np.unique(np.stack([a, b]), axis=1).T)
    return pairs == len(np.unique(a)) == len(np.unique(b))


def _other_folds(here: Evaluated, there: Evaluated, name: str) -> InputError:
    return InputError(
        f"{here.folder}: {name} has other folds than in {there.folder}, so the two were trained on "
        "other people; give both the same people and the same evaluate.protocol, folds, seed and "
        "stratify"
    )
