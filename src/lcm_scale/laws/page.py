"""The report of a sweep: one self-contained page, `scaling.json`, every figure as PNG, SVG and CSV.

The first sentence is the verdict: at how many numbers of people some size beats the best baseline,
and which law foretells the largest size. What may not be concluded stands above what may.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lcm_scale.files import write_atomic
from lcm_scale.laws.analysis import Analysis
from lcm_scale.laws.collect import best_rate_by_size
from lcm_scale.laws.figures import figures
from lcm_scale.laws.starts import starts
from lcm_scale.laws.tables import people_of, tables
from lcm_scale.report import pages, pictures, wording
from lcm_scale.report.numbers import plain


def write(a: Analysis) -> Path:
    """Write the page, its figures and numbers into the sweep's `report/`.

    Returns: the page's path.  Raises: InputError where the folder cannot be written.
    """
    folder = a.collected.sweep.folder / "report"
    drawn = list(figures(a))
    pictures.write(drawn, folder / "figures")
    write_atomic(folder / "scaling.json", json.dumps(plain(numbers(a)), indent=1).encode())
    page = folder / "scaling.html"
    write_atomic(page, _render(a, drawn).encode())
    return page


def _render(a: Analysis, drawn: Sequence[pictures.Drawn]) -> str:
    recipe = a.collected.sweep.recipe
    return (
        pages.environment("laws", whole=wording.whole)
        .get_template("scaling.html.j2")
        .render(
            title=recipe.title or recipe.name,
            simulated=a.collected.simulated,
            standing=_standing(a),
            verdict=verdict(a),
            warnings=warnings(a),
            tables=tables(a),
            images=[pictures.shown(each) for each in drawn],
        )
    )


def _standing(a: Analysis) -> str:
    """Of the best size with the most people: ahead or behind; '' without a baseline."""
    if not a.against:
        return ""
    most = a.against[-1]
    return "ahead" if most.loss < most.baseline_loss else "behind"


def verdict(a: Analysis) -> str:
    """Who wins at how many people, and what the size adds."""
    ahead = [x for x in a.against if x.loss < x.baseline_loss]
    parts = []
    if a.against:
        most = a.against[-1]
        winner = "the model" if _standing(a) == "ahead" else "the baseline"
        where = ", ".join(map(people_of, ahead))
        parts.append(
            f"Some size beats the best baseline in loss at {len(ahead)} of {len(a.against)} "
            "numbers of people"
            + (f" ({where})" if ahead else "")
            + f"; with the most ({people_of(most)}) {winner} is lower: {most.size} "
            f"{most.loss:.3f}, {most.baseline} {most.baseline_loss:.3f}."
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
