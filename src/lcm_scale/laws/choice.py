"""Which law foretells the largest size, how sure its coefficients are, and what may not be
concluded.

The law is chosen by what it foretells: fitted without the largest size, it must meet the losses
there. `data`, in which size does nothing, is among the candidates. A compute-optimal frontier is
refused where the runs do not hold one: where E's interval covers nearly all of the smallest loss,
or the term of the size may be zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.errors import InputError
from lcm_scale.laws.fit import Fit, Interval, check, fit
from lcm_scale.laws.laws import LAWS, Law, Runs

NEARLY_ALL = 0.8  # of the smallest loss, covered by E's interval
NO_DIFFERENCE = 0.02  # laws whose errors lie so close are told apart by their number of parameters


@dataclass(frozen=True)
class Candidate:
    """A law, by the root mean square of its log-errors: on the runs it saw, and on the largest
    size, which it did not see."""

    law: str
    inside: float
    foretold: float
    reason: str = ""  # why it was not fitted


@dataclass(frozen=True)
class Coefficient:
    name: str
    value: float
    profile: Interval
    bootstrap: Interval


@dataclass(frozen=True)
class Influence:
    """What leaving one run out does to E, in half-widths of its interval."""

    name: str
    e_without: float
    shift: float


def compare(laws: Sequence[Law], runs: Runs) -> list[Candidate]:
    """Each law, fitted without the largest size and asked for it."""
    largest = runs.parameters == runs.parameters.max()
    out = []
    for law in laws:
        try:
            check(law, runs)
            rest = runs.take(~largest)
            check(law, rest)
        except InputError as error:
            out.append(Candidate(law.name, math.nan, math.nan, str(error)))
            continue
        part = fit(law, rest)
        held_out = runs.take(largest)
        missed = np.log(held_out.loss) - np.log(np.maximum(part.predict(held_out), 1e-12))
        out.append(Candidate(law.name, _rms(part.residuals), _rms(missed)))
    return out


def chosen(usable: Sequence[Candidate]) -> str:
    """The best foretold; of those within `NO_DIFFERENCE` of it (relative) the one with the fewest
    parameters."""
    best = min(c.foretold for c in usable)
    level = [c for c in usable if c.foretold <= best * (1 + NO_DIFFERENCE)]
    return min(level, key=lambda c: len(LAWS[c.law].names)).law


def refusal(fitted: Fit, coefficients: Sequence[Coefficient]) -> str:
    """Why a compute-optimal frontier would be an invention, or ''."""
    by_name = {c.name: c for c in coefficients}
    smallest = float(fitted.runs.loss.min())
    if "A" not in by_name:
        return (
            f"the law that foretells best ({fitted.law.name}) has no term for the size: the "
            "smallest model is as good"
        )
    e, a = by_name["E"].profile, by_name["A"].profile
    if e.width > NEARLY_ALL * smallest:
        return (
            f"E lies between {e.low:.3g} and {e.high:.3g}, nearly all of the smallest loss "
            f"({smallest:.3g}): what size and "
            "data could still gain is unknown"
        )
    if not a.bounded_below or a.low <= 0:
        return "the size's term A may be zero: these runs do not show that size matters"
    return ""


def influence(fitted: Fit, names: Sequence[str], e: Interval) -> list[Influence]:
    """Every run left out once; the strongest first."""
    half = max(e.width / 2, 1e-12)
    out = []
    for i, name in enumerate(names):
        keep = np.arange(len(fitted.runs)) != i
        without = fit(
            fitted.law, fitted.runs.take(keep), fitted.scale, fitted.values, fitted.delta
        ).named["E"]
        out.append(Influence(name, without, (without - fitted.named["E"]) / half))
    return sorted(out, key=lambda row: -abs(row.shift))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
