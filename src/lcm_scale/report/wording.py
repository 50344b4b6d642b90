"""How the report puts numbers and facts: digits, names of models, table cells, and what is folded
away.

Plain values in, text or escaped markup out; nothing here draws or writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from lcm_scale.config.run import SCRATCH
from lcm_scale.data.manifest import CONSTANT
from lcm_scale.evaluation.baselines import TOLD
from lcm_scale.evaluation.metrics import METRICS, Metric, MetricKind
from lcm_scale.evaluation.permutation import Permuted
from lcm_scale.evaluation.results import CEILING

LABELS = {
    "majority": "Majority",
    "linear": "Linear, edges",
    "tangent": "Linear, tangent",
    TOLD: "Linear, tangent, told the context",
    "people memory": "People memory alone",
    "decoder": "Decoder alone",
    SCRATCH: "Not pretrained",
    CEILING: "Ceiling (no baseline)",
}
LONG = 8  # entries; a longer mapping is folded away
AUDIT = {  # columns of `pseudo_labels.AuditRow` as people read them
    "phase": "Phase",
    "target": "Target",
    "missing": "Scans without it",
    "given": "Filled in",
    "mean_confidence": "Mean confidence",
    "categories": "What was filled in",
    "known": "Validation scans with it",
    "agreement": "Agreement on those",
    "threshold": "Confidence asked for",
}
MINUS = "\N{MINUS SIGN}"


def show(m: Metric, kind: MetricKind, signed: bool = False) -> str:
    """``0.681 [0.650, 0.712]``, errors in their own unit with two decimals."""
    return (
        f"{digits(m.value, kind, signed)} [{digits(m.low, kind, signed)}, "
        f"{digits(m.high, kind, signed)}]"
    )


def digits(value: float, kind: MetricKind, signed: bool = False) -> str:
    if not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:{'+' if signed else ''}.{places(kind)}f}".replace("-", MINUS)


def places(kind: MetricKind) -> int:
    """An error in its own unit takes two decimals, everything else three."""
    return 2 if kind == METRICS["scalar"]["mae"] else 3


def cell(m: Metric, kind: MetricKind, signed: bool = False) -> Markup:
    """A number and its interval as two lines of a table cell."""
    value = digits(m.value, kind, signed)
    if not math.isfinite(m.value):
        return Markup("<b>{}</b>").format(value)
    ends = (digits(m.low, kind, signed), digits(m.high, kind, signed))
    return Markup("<b>{}</b> <i>[{}, {}]</i>").format(value, *ends)


def p_value(p: float) -> str:
    """``p = .032``; what is smaller than a thousandth says so."""
    if not math.isfinite(p):
        return ""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def permutation(found: Permuted, kind: MetricKind) -> str:
    """What was exchanged, what came of it, and what that does not say."""
    between = (
        f"between people of one {found.within}"
        if found.within
        else "among the scans of each person"
    )
    chance = f"95 % of them lie between {digits(found.low, kind)} and {digits(found.high, kind)}"
    return (
        f"Permutation test: {p_value(found.p) or 'not defined'}. The labels of "
        f"{words(found.target)} were exchanged {found.permutations:,} times {between}, against the "
        f"held-out predictions as they are: {kind.label} is {digits(found.value, kind)}, and with "
        f"exchanged labels {chance}. Another label could fall to {found.movable:,} of "
        f"{found.people:,} people. Nothing was trained anew, so it asks whether predictions and "
        "labels go together, not who is ahead."
    )


def better(results: Mapping[str, tuple[Metric, ...]], kind: MetricKind, name: str) -> str:
    """The model with the best point estimate of a metric, '' where several share it. The
    frequencies of the classes are calibrated by construction, so majority wins no calibration; a
    ceiling is no model."""
    values = {
        model: m.value
        for model, metrics in results.items()
        for m in metrics
        if m.name == name
        and model != CEILING
        and not (name == "calibration_error" and model == "majority")
    }
    finite = {model: v for model, v in values.items() if math.isfinite(v)}
    best = (max if kind.higher_is_better else min)(finite.values(), default=math.nan)
    winners = [model for model, v in finite.items() if v == best]
    return winners[0] if len(winners) == 1 else ""


def label(model: str) -> str:
    return LABELS.get(model, model)


def baseline_phrase(name: str, kind: str) -> str:
    majority = (
        "always guessing the commonest class" if kind == "class" else "always guessing the mean"
    )
    phrases = {
        "majority": majority,
        "linear": "a linear model on the edges",
        "tangent": "a linear model on the tangent space",
        TOLD: "a linear model on the tangent space that is told the same context",
        SCRATCH: "the model without pretraining",
    }
    return phrases.get(name, name)


def words(name: str) -> str:
    return name.replace("_", " ")


def marks(simulated: object, confounded: object, optimistic: object = False) -> list[str]:
    """Words that must stay with a number or a figure wherever it goes."""
    words = {"SIMULATED": simulated, "OPTIMISTIC": optimistic, "CONFOUNDED": confounded}
    return [word for word, on in words.items() if on]


def stamped(simulated: object, confounded: object, optimistic: object = False) -> str:
    """The same as a figure bears them."""
    return "   ".join(marks(simulated, confounded, optimistic))


def first_upper(text: str) -> str:
    """Unlike `capitalize` it leaves FIQ alone."""
    return text[:1].upper() + text[1:]


def lower(label: str) -> str:
    """A metric's label within a sentence; AUROC and R² keep theirs."""
    return (
        label if label[:2].isupper() or not label[1:2].isalpha() else label[0].lower() + label[1:]
    )


def whole(sentence: str) -> Markup:
    """A number stays on one line with its interval."""
    return Markup(
        re.sub(r"\S+ \[[^\]<>]*\]", r'<span class="whole">\g<0></span>', str(escape(sentence)))
    )


def audit_row(row: Mapping[str, Any], evaluated: Mapping[str, tuple[str, str]]) -> list[str]:
    """Agreement is a share, of scalars the mean absolute error: the cell says which. A target that
    is not evaluated is taken for a scalar where labels were given without a confidence.

    Args: evaluated: target -> its kind and unit.
    """
    cells = {
        key: words(fact(value)) if key == "target" else fact(value) for key, value in row.items()
    }
    agreement = row.get("agreement", math.nan)
    if math.isfinite(agreement):
        guess = (
            "scalar"
            if row.get("given") and not math.isfinite(row.get("mean_confidence", math.nan))
            else "class"
        )
        kind, unit = evaluated.get(row["target"], (guess, ""))
        cells["agreement"] = (
            f"off by {agreement:.2f} {unit}".strip()
            if kind == "scalar"
            else f"{100 * agreement:.1f} % right"
        )
    if math.isfinite(row.get("mean_confidence", math.nan)):
        cells["mean_confidence"] = f"{row['mean_confidence']:.3f}"
    return list(cells.values())


def quality(quality: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(name, fact, what a click unfolds or '').  A region that is constant in every scan is named,
    the others counted."""
    rows = []
    for key, value in quality.items():
        if key == CONSTANT and value:
            always = [region for region, n in value.items() if n == quality.get("scans")]
            rest = {region: n for region, n in value.items() if region not in always}
            if always:
                rows.append(("constant in every scan", ", ".join(always), ""))
            if rest:
                affected = (
                    f"{len(rest)} region{'' if len(rest) == 1 else 's'}, each in at most "
                    f"{max(rest.values())} scans"
                )
                rows.append(("constant in some scans", affected, fact(rest)))
        elif isinstance(value, Mapping) and len(value) > LONG:
            rows.append((key, f"{len(value)} entries", fact(value)))
        else:
            rows.append((key, fact(value), ""))
    return rows


def fact(value: Any) -> str:
    """A fact as people read it: no braces, four digits."""
    if isinstance(value, Mapping):
        return ", ".join(f"{words(str(k))}: {fact(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(fact(v) for v in value) or "none"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}" if math.isfinite(value) else "\N{EN DASH}"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}" if abs(int(value)) >= 10_000 else str(value)
    return "\N{EN DASH}" if value is None or value == "" else str(value)
