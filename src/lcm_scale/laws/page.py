"""The report of a sweep: one self-contained page, `scaling.json`, and a CSV beside every figure.

The first sentence is the verdict: at how many numbers of people some size beats the best baseline,
and which law foretells the largest size. What may not be concluded stands above what may.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from lcm_scale.config import FitConfig
from lcm_scale.csv_text import csv_text
from lcm_scale.files import write_atomic
from lcm_scale.laws.analysis import Against, Analysis, LawFit
from lcm_scale.laws.collect import BestRate, Ensemble, best_rate_by_size
from lcm_scale.laws.consequences import MetricFit
from lcm_scale.laws.figures import figures
from lcm_scale.laws.fit import Interval
from lcm_scale.laws.starts import Started, starts
from lcm_scale.report.style import MODEL, WARNING, style

DPI = 110

Table = tuple[str, str, Sequence[str], list[list[str]]]


def write(a: Analysis) -> Path:
    """Write the page, its figures and numbers into the sweep's `report/`.  Returns: the page's
    path."""
    folder = a.collected.sweep.folder / "report"
    images = []
    for stem, figure, rows in figures(a):
        picture = _png(figure)
        write_atomic(folder / "figures" / f"{stem}.png", picture)
        write_atomic(folder / "figures" / f"{stem}.csv", _csv(rows).encode())
        images.append((stem, Markup(base64.b64encode(picture).decode())))
    write_atomic(folder / "scaling.json", json.dumps(_plain(numbers(a)), indent=1).encode())
    page = folder / "scaling.html"
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = (resources.files("lcm_scale.laws") / "scaling.html.j2").read_text(encoding="utf-8")
    text = environment.from_string(template).render(
        title=a.collected.sweep.recipe.title or a.collected.sweep.recipe.name,
        simulated=a.collected.simulated,
        verdict=verdict(a),
        warnings=warnings(a),
        tables=tables(a),
        images=images,
        blue=MODEL,
        warning=WARNING,
    )
    write_atomic(page, text.encode())
    return page


def verdict(a: Analysis) -> str:
    """Who wins at how many people, and what the size adds."""
    ahead = [x for x in a.against if x.loss < x.baseline_loss]
    parts = []
    if a.against:
        most = a.against[-1]
        winner = "the model is ahead" if most.loss < most.baseline_loss else "the baseline is ahead"
        where = ", ".join(map(_people, ahead))
        parts.append(
            f"Some size beats the best baseline in loss at {len(ahead)} of {len(a.against)} "
            "numbers of people"
            + (f" ({where})" if ahead else "")
            + f"; with the most ({_people(most)}) {winner}: {most.size} {most.loss:.3f}, "
            f"{most.baseline} {most.baseline_loss:.3f}."
        )
    if a.law:
        name = a.law.fitted.law.name
        foretold = next(c for c in a.law.candidates if c.law == name)
        parts.append(
            f"The law '{name}' foretells the largest size best, to {foretold.foretold:.1%} of its "
            "loss."
        )
    rates = best_rate_by_size(a.collected.rows)
    if len(rates) > 1:
        dearest = max(r.transferred / r.loss - 1 if r.transferred else 0.0 for r in rates)
        parts.append(
            f"The best rate of {rates[0].size}, {rates[0].rate:g}, costs the other sizes up to "
            f"{dearest:.0%} in loss; theirs are "
            + ", ".join(f"{r.rate:g} ({r.size})" for r in rates[1:])
            + "."
        )
    return " ".join(parts) or "No baselines to compare with."


def warnings(a: Analysis) -> list[str]:
    """What is not in the fit, and what may not be concluded from it."""
    c = a.collected
    lines = []
    if a.law is None:
        lines.append(f"No law was fitted: {a.unfitted}.")
    elif a.law.refused:
        lines.append(f"No compute-optimal frontier: {a.law.refused}.")
    for names, word in (
        (c.diverged, "diverged"),
        (c.missing, "missing"),
        (c.incomplete, "without all folds"),
    ):
        if names:
            lines.append(f"{len(names)} points {word}, left out: {', '.join(names)}.")
    if a.passed_over:
        lines.append(
            f"{a.passed_over} runs of other rates, of fewer labels or from another start are not "
            "in the laws; rates were chosen on the held-out loss itself, which flatters them a "
            "little."
        )
    if c.extra:
        lines.append(
            f"{c.extra} finished points in the folder are not named by the recipe any more."
        )
    return lines


def tables(a: Analysis) -> list[Table]:
    """(heading, text, columns, rows), in the page's order."""
    drawn = [_baseline_table(a)] if a.against else []
    begun = starts(a.collected.rows)
    if begun:
        drawn.append(_start_table(begun))
    if a.law:
        drawn += _law_tables(a, a.law)
    rates = best_rate_by_size(a.collected.rows)
    if rates:
        drawn.append(_rate_table(rates))
    if a.ensembles:
        drawn.append(_ensemble_table(a.ensembles))
    return drawn


def _baseline_table(a: Analysis) -> Table:
    return (
        "Against the baselines",
        f"Held-out loss of {a.collected.people_held_out} people a fold, seeds averaged; each "
        "baseline is tuned on the same training people, and the model's epoch is chosen on "
        "validation people beside these.",
        ("people", "best size", "loss", "best baseline", "loss", "base rates"),
        [
            [
                _people(x),
                x.size,
                f"{x.loss:.3f}",
                x.baseline,
                f"{x.baseline_loss:.3f}",
                f"{x.chance:.3f}",
            ]
            for x in a.against
        ],
    )


def _start_table(begun: Sequence[Started]) -> Table:
    return (
        "Pretrained against scratch",
        "Held-out loss of runs that differ in their start alone: same size, people, seed and "
        "settings. No interval: one run a pair, so read how many pairs agree.",
        ("started from", "size", "people", "loss", "from scratch", "lower in"),
        [
            [
                s.start,
                s.size,
                _people(s),
                f"{s.loss:.3f}",
                f"{s.scratch:.3f}",
                f"{s.lower} of {s.pairs}",
            ]
            for s in begun
        ],
    )


def _rate_table(rates: Sequence[BestRate]) -> Table:
    return (
        "Learning rates",
        "Loss at each size's best rate, seeds averaged, and at the best rate of the smallest size.",
        ("size", "best rate", "loss", "at the smallest's rate"),
        [
            [
                r.size,
                f"{r.rate:g}",
                f"{r.loss:.3f}",
                "" if r.transferred is None else f"{r.transferred:.3f}",
            ]
            for r in rates
        ],
    )


def _ensemble_table(ensembles: Sequence[Ensemble]) -> Table:
    return (
        "Many small or one large",
        "Answers of K seeds averaged, beside the single larger model of the nearest FLOPs.",
        ("size", "seeds", "FLOPs", "one seed", "together", "one larger", "FLOPs", "loss"),
        [
            [
                e.size,
                str(e.seeds),
                f"{e.flops:.2e}",
                f"{e.single:.3f}",
                f"{e.together:.3f}",
                e.larger,
                f"{e.larger_flops:.2e}",
                f"{e.larger_loss:.3f}",
            ]
            for e in ensembles
        ],
    )


def _law_tables(a: Analysis, law: LawFit) -> list[Table]:
    return [
        (
            "Laws",
            "Root mean square of the log-errors: within the runs that were fitted, and on the "
            "largest size, left out of the fit.",
            ("law", "inside", "foretold", ""),
            [
                [
                    c.law,
                    _percent(c.inside),
                    _percent(c.foretold),
                    c.reason or ("chosen" if c.law == law.fitted.law.name else ""),
                ]
                for c in law.candidates
            ],
        ),
        _coefficient_table(a.collected.sweep.recipe.fit, law),
        (
            "What would settle it",
            "Width of 95 % of the simulated estimates of E, from this fit and its noise.",
            ("", "runs", "width"),
            [[o.what, f"+{o.runs}", f"{o.width:.3f}"] for o in law.options],
        ),
        (
            "Influence",
            "E without each run, and its shift in half-widths of E's interval; the strongest five.",
            ("run", "E", "shift"),
            [[i.name, f"{i.e_without:.3f}", f"{i.shift:+.2f}"] for i in law.influence[:5]],
        ),
        _metric_table(law.metrics),
    ]


def _coefficient_table(config: FitConfig, law: LawFit) -> Table:
    counted = {"all": "all parameters", "body": "parameters without embeddings"}
    other = "body" if config.parameters == "all" else "all"
    scale = law.fitted.scale
    return (
        f"Coefficients of '{law.fitted.law.name}'",
        f"{len(law.runs)} runs; N is {counted[config.parameters]}, divided by "
        f"{scale.parameters:.3g}; D ({config.data}) by {scale.seen:.3g}: a coefficient is what its "
        f"term adds there. Noise of a run {law.fitted.sigma:.1%}. As usually written: "
        + ", ".join(f"{k} {v:.4g}" for k, v in law.raw.items())
        + f". An interval in brackets reaches its bound. With {counted[other]}: the last column.",
        ("", "value", "95 % profile", "95 % bootstrap", other),
        [
            [
                c.name,
                _number(c.value),
                _interval(c.profile),
                _interval(c.bootstrap),
                _number(law.other_count[c.name]),
            ]
            for c in law.coefficients
        ],
    )


def _metric_table(metrics: Sequence[MetricFit]) -> Table:
    return (
        "Metrics",
        "Each has its own saturating law of size and people; 'size matters' where the size's term "
        "cannot be zero.",
        ("metric", "ceiling", "95 %", "size matters", "best run", "best baseline"),
        [
            [
                f"{m.target} {m.metric}",
                f"{m.ceiling:.3f}",
                _interval(m.ceiling_interval),
                "yes" if m.size_matters else "not shown",
                f"{m.best_model:.3f}",
                "" if m.best_baseline is None else f"{m.best_baseline:.3f}",
            ]
            for m in metrics
        ],
    )


def _people(x: Against | Started) -> str:
    return f"{x.people}" if x.label_share == 1 else f"{x.people}, {x.label_share:.0%} labelled"


def numbers(a: Analysis) -> dict[str, Any]:
    """All of it as plain values."""
    law: dict[str, Any] = {"law": None, "unfitted": a.unfitted}
    if a.law:
        law = {
            "law": a.law.fitted.law.name,
            "scale": asdict(a.law.fitted.scale),
            "sigma": a.law.fitted.sigma,
            "delta": a.law.fitted.delta,
            "runs": len(a.law.runs),
            "raw": dict(a.law.raw),
            "other_count": dict(a.law.other_count),
            **{
                name: [asdict(x) for x in getattr(a.law, name)]
                for name in ("candidates", "coefficients", "influence", "options", "metrics")
            },
            "frontier": None if a.law.frontier is None else a.law.frontier.__dict__,
            "refused": a.law.refused,
        }
    return {
        "verdict": verdict(a),
        "warnings": warnings(a),
        **law,
        **{name: [asdict(x) for x in getattr(a, name)] for name in ("against", "ensembles")},
        "rates": [asdict(x) for x in best_rate_by_size(a.collected.rows)],
        "starts": [asdict(x) for x in starts(a.collected.rows)],
    }


def _interval(i: Interval) -> str:
    low, high = _number(i.low), _number(i.high)
    return f"{low if i.bounded_below else f'[{low}]'} to {high if i.bounded_above else f'[{high}]'}"


def _number(value: float) -> str:
    """Three digits; what an optimiser leaves of a bound at zero is zero."""
    return "0" if abs(value) < 1e-6 else f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "\N{EN DASH}"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with style(math=True):
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    return csv_text(rows, list(dict.fromkeys(key for row in rows for key in row)))


def _plain(value: Any) -> Any:
    """Plain JSON: numpy unwrapped, what is no number as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
