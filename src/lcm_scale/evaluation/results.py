"""What an evaluation comes to: measured targets and the facts that a report shows beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lcm_scale.config.run import SCRATCH
from lcm_scale.evaluation.conformal import Promise
from lcm_scale.evaluation.metrics import METRICS, Metric, Predictions
from lcm_scale.evaluation.permutation import Permuted
from lcm_scale.evaluation.protocols.plan import BRACKETS, READ_AS

CEILING = "ceiling"  # what a simulator knows of its scans: in `results`, never in `differences`


@dataclass(frozen=True)
class TargetResult:
    """One target, measured.

    Attributes:
        results: model name -> its metrics; baselines under their names in `baselines.BASELINES`.
        differences: baseline -> model minus that baseline, paired, metric by metric.
        deciding: the metric that says who wins.
        confounded: why its numbers must not be believed, or None.
        predictions: of the model and the baselines.
        unit: of a scalar, in words, '' where nobody said.
        parts: names of the model's parts, which stand in `results` and `differences` too.
    """

    target: str
    kind: str
    categories: tuple[str, ...]
    n_scans: int
    n_subjects: int
    results: Mapping[str, tuple[Metric, ...]]
    differences: Mapping[str, tuple[Metric, ...]]
    deciding: str
    confounded: str | None
    predictions: tuple[Predictions, ...]
    unit: str = ""
    parts: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """Ours: the first that is no baseline."""
        return next(name for name in self.results if name not in self.differences)

    def metric(self, model: str, name: str) -> Metric:
        return next(m for m in self.results[model] if m.name == name)

    def difference(self, baseline: str, name: str) -> Metric:
        return next(m for m in self.differences[baseline] if m.name == name)

    @property
    def best_baseline(self) -> str | None:
        """By point estimate in the deciding metric; None where no baseline was run. Parts of the
        model, and the model without pretraining, are none."""
        return self.best_of(self.results, self.differences)

    def best_of(
        self,
        results: Mapping[str, tuple[Metric, ...]],
        differences: Mapping[str, tuple[Metric, ...]],
    ) -> str | None:
        """The best baseline of this target in other results, such as those of few labels."""
        sign = 1 if METRICS[self.kind][self.deciding].higher_is_better else -1
        values = {
            name: sign * next(m.value for m in results[name] if m.name == self.deciding)
            for name in differences
            if name not in (*self.parts, SCRATCH)
        }
        return max(values, key=values.__getitem__, default=None)


@dataclass(frozen=True)
class LabelPoint:
    """The headline with some number of labelled people.

    Attributes:
        label: of a row or tick, the number or 'all'.   count: labelled people of a fold, on
            average.   draws: of who they are; 1 of all labels.
        results, differences: as of `TargetResult`.
    """

    label: str
    count: float
    draws: int
    results: Mapping[str, tuple[Metric, ...]]
    differences: Mapping[str, tuple[Metric, ...]]

    def metric(self, model: str, name: str) -> Metric:
        return next(m for m in self.results[model] if m.name == name)

    def difference(self, baseline: str, name: str) -> Metric:
        return next(m for m in self.differences[baseline] if m.name == name)


@dataclass(frozen=True)
class Subgroup:
    """One group's part of one target's deciding metric.

    Attributes:
        column: site or sex.   baseline: the target's best one, '' where none was run.
        n_scans, n_people: of the group.
        ours, theirs: of the model and of that baseline, in the group; None where too few people are
            in it, or the metric is not defined there.
        rest: of the model, the group minus everybody else whose group is known.
        p: that `rest` is zero, corrected by Holm over the column's groups; NaN where not tested.
    """

    target: str
    column: str
    group: str
    metric: str
    baseline: str
    n_scans: int
    n_people: int
    ours: Metric | None = None
    theirs: Metric | None = None
    rest: Metric | None = None
    p: float = float("nan")


@dataclass(frozen=True)
class ToldBy:
    """What one covariate, or all of them, tells of a target.

    Attributes:
        metrics: of held-out scans, empty where it was not measured, and `why` says why not.
        differences: the model minus it, paired.
        unknown: held-out scans of which it is not known (of all together: any of them).
    """

    by: str
    metrics: tuple[Metric, ...] = ()
    differences: tuple[Metric, ...] = ()
    unknown: int = 0
    why: str = ""

    def metric(self, name: str) -> Metric:
        return next(m for m in self.metrics if m.name == name)

    def difference(self, name: str) -> Metric:
        return next(m for m in self.differences if m.name == name)


@dataclass(frozen=True)
class WithinStrata:
    """The model's score among scans of one stratum of a covariate, pooled over the strata.

    Attributes:
        strata: how many.   within, whole: its metric with pairs of one fold and stratum, and of one
            fold, of the scans whose stratum is known.   change: within minus whole, paired.
        why: why it was not measured; then there are no metrics.
    """

    by: str
    strata: int = 0
    within: Metric | None = None
    whole: Metric | None = None
    change: Metric | None = None
    why: str = ""


@dataclass(frozen=True)
class Confounds:
    """Of one target.  Attributes: ranked: name of the metric of `within`."""

    target: str
    kind: str
    ranked: str
    told: tuple[ToldBy, ...]
    within: tuple[WithinStrata, ...]


@dataclass(frozen=True)
class Report:
    """Everything a reader should see.

    Attributes:
        headline: name of the target that decides the verdict.
        data: facts about the scans.   stages: (stage, facts).
        curves: rows of `learning.learning_rows`.   pseudo_labels: audit rows, one a target.
        labels: the headline with few labelled people, ascending; empty where nobody asked.
        subgroups: each target's deciding metric by site and by sex.
        confounds: what is told of each target without any matrix; empty where nobody asked.
        promises: sets and intervals of the targets; empty where nobody asked.
        permuted: the headline with exchanged labels, None where nobody asked.
        together: target -> p of the model's paired difference from the best baseline in the
            deciding metric, corrected by Holm over the targets; NaN where no baseline was run.
        optimistic: why the numbers are too good, '' where nothing makes them so.
        methods: what `described.described` says of the sets, the model and the statistics.
        asked: of each target how many people, by answer.
        brackets: what an interval covers.   read_as: how the scans were predicted.
        quality: constant regions, skipped scans.   provenance: versions, commit, fingerprints,
            seeds.
    """

    title: str
    simulated: bool
    headline: str
    targets: tuple[TargetResult, ...]
    notes: tuple[str, ...]
    protocol: str
    data: Mapping[str, Any]
    stages: tuple[tuple[str, Mapping[str, Any]], ...]
    curves: Sequence[Mapping[str, Any]]
    pseudo_labels: Sequence[Mapping[str, Any]]
    quality: Mapping[str, Any]
    provenance: Mapping[str, Any]
    labels: tuple[LabelPoint, ...] = ()
    optimistic: str = ""
    brackets: str = BRACKETS
    read_as: str = READ_AS
    asked: Mapping[str, str] = field(default_factory=dict)
    subgroups: tuple[Subgroup, ...] = ()
    confounds: tuple[Confounds, ...] = ()
    permuted: Permuted | None = None
    promises: tuple[Promise, ...] = ()
    together: Mapping[str, float] = field(default_factory=dict)
    methods: Mapping[str, Any] = field(default_factory=dict)
