"""What a verdict says of rows that are no baselines: the model without pretraining, and what a
simulator knows of its own scans."""

from __future__ import annotations

from lcm_scale.config.run import SCRATCH
from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.evaluation.paired import standing
from lcm_scale.evaluation.results import CEILING, TargetResult
from lcm_scale.report import wording

SAID = {
    "better": "it excludes zero, so pretraining helps here",
    "worse": "it excludes zero, so pretraining does harm here",
    "level": "it includes zero, so no gain by pretraining can be shown",
}


def of_scratch(t: TargetResult) -> str:
    """Whether pretraining helped, '' where nobody asked."""
    if SCRATCH not in t.differences:
        return ""
    kind = METRICS[t.kind][t.deciding]
    difference = t.difference(SCRATCH, t.deciding)
    return (
        f" Not pretrained, it has {wording.show(t.metric(SCRATCH, t.deciding), kind)}; the paired "
        f"difference, pretrained minus not, is {wording.show(difference, kind, signed=True)}: "
        f"{SAID[standing(difference, kind)]}. The linear baselines learn from the people trained "
        "on here alone, none of the pretraining's."
    )


def of_ceiling(t: TargetResult) -> str:
    """How well the labels can be told at best, '' where nobody knows."""
    if CEILING not in t.results:
        return ""
    kind = METRICS[t.kind][t.deciding]
    best = wording.show(t.metric(CEILING, t.deciding), kind)
    return (
        f" The simulator's own posterior has {best}: chance aside, who knew all that it drew for "
        "each person could do no better, and a scan shows less."
    )
