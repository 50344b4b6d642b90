"""Which part of the model does the work: its people memory or its decoder, what it is told beside
the matrix, or its pretraining.

The model without a part stands in the same tables, on the same people. Each is named only by what
the paired differences show: a part that cannot be told from the whole does the work, and what the
other adds cannot be shown.
"""

from __future__ import annotations

from lcm_scale.config.run import SCRATCH
from lcm_scale.evaluation.baselines import TOLD
from lcm_scale.evaluation.metrics import METRICS, Metric
from lcm_scale.evaluation.paired import standing
from lcm_scale.evaluation.results import TargetResult
from lcm_scale.inference.predictor import DECODER, PEOPLE
from lcm_scale.report import wording

BOTH = f"{PEOPLE} and {DECODER} together"
PRETRAINING = "pretraining"


def winner(t: TargetResult) -> str:
    """What makes the model's lead, in a few words; '' where it cannot be told.

    The caller has seen that the model leads its best baseline.
    """
    found = [_of_two(t)] if _has_parts(t) else []
    if _shows(t, SCRATCH) == "better":
        found.append(PRETRAINING)
    return ", by ".join(filter(None, found))


def told(t: TargetResult) -> str:
    """Sentences that name the parts with their numbers, '' where the model has one only."""
    return _told_of_two(t) + _told_of_context(t)


def _has_parts(t: TargetResult) -> bool:
    return PEOPLE in t.parts and DECODER in t.parts


def _shows(t: TargetResult, other: str) -> str:
    """better, worse or level: the model against a part or a baseline; '' where it was not asked."""
    if other not in t.differences:
        return ""
    return standing(t.difference(other, t.deciding), METRICS[t.kind][t.deciding])


def _of_two(t: TargetResult) -> str:
    """Of people memory and decoder the one that does the work."""
    if _nothing(t.difference(PEOPLE, t.deciding)):
        return PEOPLE
    shown = (_shows(t, PEOPLE), _shows(t, DECODER))
    return {
        ("level", "better"): PEOPLE,
        ("better", "level"): DECODER,
        ("better", "better"): BOTH,
    }.get(shown, "")


def _told_of_two(t: TargetResult) -> str:
    if not _has_parts(t):
        return ""
    numbers = {part: _numbers(t, part) for part in (PEOPLE, DECODER)}
    does = _of_two(t)
    if _nothing(t.difference(PEOPLE, t.deciding)):
        own = wording.show(t.metric(PEOPLE, t.deciding), METRICS[t.kind][t.deciding])
        ahead = "is ahead with" if _shows(t, DECODER) == "worse" else "has"
        return (
            f" Its {PEOPLE} gives the answer alone ({own}): nothing of its {DECODER} is added, "
            f"which by itself {ahead} {numbers[DECODER]}."
        )
    if does in (PEOPLE, DECODER):
        other = DECODER if does == PEOPLE else PEOPLE
        return (
            f" Its {does} does the work: alone it has {numbers[does]}, so that what the {other} "
            f"adds cannot be shown; the {other} alone has {numbers[other]}."
        )
    if does == BOTH:
        return (
            f" Both parts count: its {PEOPLE} alone has {numbers[PEOPLE]}, its {DECODER} alone "
            f"{numbers[DECODER]}."
        )
    leading = [part for part in (PEOPLE, DECODER) if _shows(t, part) == "worse"]
    if leading:
        parts = " and ".join(f"its {part} alone ({numbers[part]})" for part in leading)
        return f" {wording.first_upper(parts)} {'is' if len(leading) == 1 else 'are'} ahead of it."
    return (
        f" Which part does the work cannot be told: its {PEOPLE} alone has {numbers[PEOPLE]}, its "
        f"{DECODER} alone {numbers[DECODER]}."
    )


def _numbers(t: TargetResult, part: str) -> str:
    """A part's own value, and the model's lead over it."""
    kind = METRICS[t.kind][t.deciding]
    own = wording.show(t.metric(part, t.deciding), kind)
    less = wording.show(t.difference(part, t.deciding), kind, signed=True)
    return f"{own} ({t.model} minus it {less})"


def _nothing(difference: Metric) -> bool:
    """The two are the same in every resample."""
    return difference.value == difference.low == difference.high == 0


def _told_of_context(t: TargetResult) -> str:
    """Whether what the model is told explains its lead over the linear model that is not."""
    if _shows(t, "tangent") != "better" or TOLD not in t.differences:
        return ""
    kind = METRICS[t.kind][t.deciding]
    less = wording.show(t.difference(TOLD, t.deciding), kind, signed=True)
    start = " Over the plain tangent model it leads; told the same context, that model is"
    return {
        "better": f"{start} behind too ({less}): the context does not explain the lead.",
        "level": f"{start} level ({less}): the context may be all of the lead.",
        "worse": f"{start} ahead ({less}): the lead is the context's.",
    }[_shows(t, TOLD)]
