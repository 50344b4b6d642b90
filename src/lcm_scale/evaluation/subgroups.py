"""Whether a model serves everybody: each evaluated target's deciding metric site by site and sex by
sex, and whether a group differs from everybody else.

In: measured targets and the sets that say who is in which group. Out: rows with intervals over
people and p of group minus rest, corrected by Holm over the groups of one column. A group is
measured with the folds and models as they are, nothing is fitted to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lcm_scale import progress
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.held_out import together
from lcm_scale.evaluation.intervals import interval, p_of_zero, weightings
from lcm_scale.evaluation.metrics import METRICS, Metric, Predictions
from lcm_scale.evaluation.results import Subgroup, TargetResult
from lcm_scale.evaluation.several import holm

SITE, SEX = "site", "sex"
LEAST_PEOPLE = 10
BOOTSTRAP = 1000  # at most: of a site of thirty people the interval is rough anyway


def by_group(
    sets: ShardSets, targets: Sequence[TargetResult], bootstrap: int, seed: int
) -> tuple[Subgroup, ...]:
    """Every target by site and by sex, where there are two groups or more; not by itself."""
    columns = _columns(sets)
    rows: list[Subgroup] = []
    with progress.stage("sites and sexes", len(targets), aside=True) as advance:
        for t in targets:
            ours = next(p for p in t.predictions if p.model == t.model).once()
            best = t.best_baseline
            theirs = next((p.once() for p in t.predictions if p.model == best), None)
            weights = np.concatenate(
                list(weightings(ours, min(bootstrap, BOOTSTRAP), seed, together(sets, ours)))
            )
            for column, groups in columns.items():
                of_scan = groups[ours.scan]
                names = [name for name in np.unique(of_scan) if name]
                if column != t.target and len(names) >= 2:
                    rows += _corrected(_rows(t, column, names, of_scan, ours, theirs, weights))
            advance()
    return tuple(rows)


def _columns(sets: ShardSets) -> Mapping[str, np.ndarray]:
    """Column -> (N,) each scan's group, '' where not known."""
    site = np.array([*sets.sites, ""])[sets.site]  # -1, not known, is the last
    found = {SITE: site}
    for number, target in enumerate(sets.vocabulary.targets):
        if target.name == SEX and target.is_class:
            codes = sets.labels[:, number]
            known = np.isfinite(codes)
            names = np.array([*target.categories, ""])
            found[SEX] = names[np.where(known, np.nan_to_num(codes), len(names) - 1).astype(int)]
    return found


def _rows(
    t: TargetResult,
    column: str,
    names: Sequence[str],
    of_scan: np.ndarray,
    ours: Predictions,
    theirs: Predictions | None,
    weights: np.ndarray,
) -> Iterator[Subgroup]:
    for name in names:
        here = of_scan == name
        row = Subgroup(
            target=t.target,
            column=column,
            group=str(name),
            metric=t.deciding,
            baseline=t.best_baseline or "",
            n_scans=int(here.sum()),
            n_people=len(np.unique(ours.subject[here])),
        )
        if row.n_people < LEAST_PEOPLE:
            yield row
            continue
        own = _values(ours, here, t.deciding, weights)
        if not np.isfinite(own[0]):
            yield row  # of one class alone, say
            continue
        apart = own - _values(ours, (of_scan != "") & ~here, t.deciding, weights)
        yield replace(
            row,
            ours=_metric(row, own),
            theirs=None
            if theirs is None
            else _metric(row, _values(theirs, here, t.deciding, weights)),
            rest=replace(_metric(row, apart), p=p_of_zero(apart)),
        )


def _corrected(rows: Iterator[Subgroup]) -> list[Subgroup]:
    found = list(rows)
    p_values = {i: row.rest.p for i, row in enumerate(found) if row.rest and row.rest.p is not None}
    adjusted = holm(p_values)
    return [replace(row, p=adjusted.get(i, float("nan"))) for i, row in enumerate(found)]


def _values(p: Predictions, here: np.ndarray, metric: str, weights: np.ndarray) -> np.ndarray:
    """(1 + B,) of the scans at hand."""
    return METRICS[p.kind][metric].compute(p.of(here), weights[:, here])


def _metric(row: Subgroup, values: np.ndarray) -> Metric:
    low, high = interval(values)
    return Metric(row.metric, float(values[0]), low, high, row.n_scans, row.n_people)
