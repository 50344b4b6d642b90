"""Who wins on a target, in plain words: nobody is ahead where the paired interval holds zero."""

from __future__ import annotations

from dataclasses import dataclass

from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.evaluation.results import TargetResult
from lcm_scale.report import beside, parts, wording


@dataclass(frozen=True)
class Verdict:
    """`standing` is ahead, behind, level (no difference can be shown), alone (no baseline) or
    optimistic (a protocol that no lead can be read from); `part` names the part of the model that
    is ahead, '' where none is or it cannot be told."""

    standing: str
    sentence: str
    detail: str
    part: str = ""


def verdict(t: TargetResult, simulated: bool = False, optimistic: str = "") -> Verdict:
    """The sentence that stands first: the model against the baseline that is best by point
    estimate, in the deciding metric.

    Args: optimistic: why the numbers are too good, '' where nothing makes them so.
    """
    found = _compared(t, simulated)
    if not optimistic:
        return found
    kind = METRICS[t.kind][t.deciding]
    others = [
        f"{wording.baseline_phrase(name, t.kind)} {wording.show(t.metric(name, t.deciding), kind)}"
        for name in t.differences
    ]
    beside = f"; {', '.join(others)}" if others else ""
    sentence = (
        f"Optimistic, by the published protocol: {t.model} has {kind.label} "
        f"{wording.show(t.metric(t.model, t.deciding), kind)} on {wording.words(t.target)}{beside}."
    )
    return Verdict("optimistic", sentence, optimistic)


def _compared(t: TargetResult, simulated: bool) -> Verdict:
    kind = METRICS[t.kind][t.deciding]
    ours = t.metric(t.model, t.deciding)
    where = (
        f"{wording.words(t.target)} ({ours.n_scans} {'simulated ' if simulated else ''}scans, "
        f"{ours.n_subjects} people)"
    )
    label = wording.lower(kind.label)
    mine = f"{t.model} has {wording.show(ours, kind)}"
    best = t.best_baseline
    if best is None:
        sentence = f"On {where} {t.model} has {label} {wording.show(ours, kind)}."
        detail = f"No baseline was run.{beside.of_scratch(t)}{beside.of_ceiling(t)}"
        return Verdict("alone", sentence, detail)
    name = wording.baseline_phrase(best, t.kind)
    theirs = f"{name} has {label} {wording.show(t.metric(best, t.deciding), kind)}"
    difference = t.difference(best, t.deciding)
    low, high = difference.low, difference.high
    lowest, highest = (low, high) if kind.higher_is_better else (-high, -low)
    if lowest > 0:
        standing, sentence = (
            "ahead",
            f"{t.model} beats the best baseline on {where}: {label} {wording.show(ours, kind)}, "
            f"{name} {wording.show(t.metric(best, t.deciding), kind)}.",
        )
    elif highest < 0:
        standing, sentence = (
            "behind",
            f"A plain baseline beats {t.model} on {where}: {theirs}, {mine}.",
        )
    else:
        standing, sentence = (
            "level",
            f"No difference can be shown between {t.model} and the best baseline on {where}: "
            f"{theirs}, {mine}.",
        )
    ending = (
        "it includes zero, so who leads may be an accident of who was scanned"
        if standing == "level"
        else "it excludes zero, so the lead is hardly an accident of who was scanned"
    )
    detail = (
        f"The paired difference, {t.model} minus {name}, is "
        f"{wording.show(difference, kind, signed=True)}: {ending}."
    )
    part = parts.winner(t) if standing == "ahead" else ""
    if part:
        sentence = f"{sentence} What wins: {part}."
    others = parts.told(t) + beside.of_scratch(t) + beside.of_ceiling(t)
    return Verdict(standing, sentence, detail + others, part)
