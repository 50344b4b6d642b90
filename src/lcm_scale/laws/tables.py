"""The tables of a sweep's page, each cell as it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lcm_scale.config import FitConfig
from lcm_scale.laws.analysis import Against, Analysis, LawFit
from lcm_scale.laws.collect import BestRate, Ensemble, best_rate_by_size
from lcm_scale.laws.consequences import MetricFit
from lcm_scale.laws.fit import Interval
from lcm_scale.laws.starts import Started, starts


@dataclass(frozen=True)
class Table:
    """Attributes: text: above it.   rows: as many cells each as there are columns."""

    heading: str
    text: str
    columns: Sequence[str]
    rows: list[list[str]]


def tables(a: Analysis) -> list[Table]:
    """In the page's order."""
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
    return Table(
        "Against the baselines",
        f"Held-out loss of {a.collected.people_held_out} people a fold, seeds averaged; each "
        "baseline is tuned on the same training people, and the model's epoch is chosen on "
        "validation people beside these.",
        ("people", "best size", "loss", "best baseline", "loss", "base rates"),
        [
            [
                people_of(x),
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
    return Table(
        "Pretrained against scratch",
        "Held-out loss of runs that differ in their start alone: same size, people, seed and "
        "settings. No interval: one run a pair, so read how many pairs agree.",
        ("started from", "size", "people", "loss", "from scratch", "lower in"),
        [
            [
                s.start,
                s.size,
                people_of(s),
                f"{s.loss:.3f}",
                f"{s.scratch:.3f}",
                f"{s.lower} of {s.pairs}",
            ]
            for s in begun
        ],
    )


def _rate_table(rates: Sequence[BestRate]) -> Table:
    return Table(
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
    return Table(
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
        Table(
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
        Table(
            "What would settle it",
            "Width of 95 % of the simulated estimates of E, from this fit and its noise.",
            ("", "runs", "width"),
            [[o.what, f"+{o.runs}", f"{o.width:.3f}"] for o in law.options],
        ),
        Table(
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
    return Table(
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
    return Table(
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


def people_of(x: Against | Started) -> str:
    """How many, and how many of their labels are known where not all are."""
    return f"{x.people}" if x.label_share == 1 else f"{x.people}, {x.label_share:.0%} labelled"


def _interval(i: Interval) -> str:
    low, high = _number(i.low), _number(i.high)
    return f"{low if i.bounded_below else f'[{low}]'} to {high if i.bounded_above else f'[{high}]'}"


def _number(value: float) -> str:
    """Three digits; what an optimiser leaves of a bound at zero is zero."""
    return "0" if abs(value) < 1e-6 else f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "\N{EN DASH}"
