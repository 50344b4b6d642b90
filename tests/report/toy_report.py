"""A report of made-up predictions, with all that a report can hold, and how its page reads."""

import html
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.evaluation.baselines import TOLD
from lcm_scale.evaluation.intervals import resampled
from lcm_scale.evaluation.metrics import Metric, Predictions, primary
from lcm_scale.evaluation.results import Report, Subgroup, TargetResult
from lcm_scale.report.write import write_report

N = 120
REASON = "all patients come from one scanner."
NASTY = '<script>alert("x")</script>&../../etc'


def predictions(target: str, model: str, skill: float, categories: tuple[str, ...]) -> Predictions:
    """Truth is the same for every model of a target; `skill` 0 is a constant guess."""
    rng = np.random.default_rng(len(target))
    subject, fold, scan = (
        np.array([f"{i:04x}" for i in range(N)]),
        np.arange(N) % 4 + 1,
        np.arange(N),
    )
    if len(categories) == 1:
        truth = rng.uniform(8, 60, N)
        noise = np.random.default_rng(len(model)).normal(0, 5 / max(skill, 1e-9) if skill else 0, N)
        scores = truth + noise if skill else np.full(N, truth.mean())
        return Predictions(model, target, "scalar", categories, truth, scores, subject, fold, scan)
    codes = rng.permutation(np.arange(N) % len(categories))
    noise = np.random.default_rng(len(model)).normal(size=(N, len(categories)))
    logits = (
        noise + skill * np.eye(len(categories))[codes] if skill else np.zeros((N, len(categories)))
    )
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(model, target, "class", categories, codes, scores, subject, fold, scan)


def result(
    target: str,
    categories: tuple[str, ...],
    skills: dict[str, float],
    confounded: str | None = None,
) -> TargetResult:
    by_model = {
        model: predictions(target, model, skill, categories) for model, skill in skills.items()
    }
    ours = by_model["LCM"]
    draws = {model: resampled(p, 100, 0) for model, p in by_model.items()}
    return TargetResult(
        target=target,
        kind=ours.kind,
        categories=categories,
        n_scans=N,
        n_subjects=N,
        results={model: drawn.metrics() for model, drawn in draws.items()},
        differences={m: draws["LCM"].minus(d) for m, d in draws.items() if m != "LCM"},
        deciding=primary(ours.kind, len(categories)),
        confounded=confounded,
        predictions=tuple(by_model.values()),
        unit="years" if target == "age" else "",
    )


def epoch(fold: str, number: int, phase: str, val_loss: float | None) -> dict[str, Any]:
    """A row of the learning curves."""
    return {
        "fold": fold,
        "model": 1,
        "epoch": number,
        "phase": phase,
        "train_loss": 2 / (number + 1),
        "val_loss": val_loss,
        "kept": number == 3,
    }


AUROC = Metric("auroc", 0.71, 0.6, 0.8, 40, 40)
APART = Metric("auroc", -0.1, -0.2, -0.01, 40, 40, 0.006)
WINS = {"LCM": 3.0, "majority": 0.0, "linear": 1.0}
LOSES = {"LCM": 0.6, "majority": 0.0, "linear": 3.0}


@cache
def report(simulated: bool = True) -> Report:
    return Report(
        title="A small study",
        simulated=simulated,
        headline="diagnosis",
        targets=(
            result("age", ("age",), WINS),
            result("diagnosis", ("CN", "Autism"), LOSES),
            result("site", tuple(f"site {i}" for i in range(10)), WINS, confounded=REASON),
        ),
        notes=("One note.",),
        protocol="Nested cross-validation: 4 folds.",
        data={"set": "toy", "scans": N},
        stages=(("shard", {"toy": "120 scans"}), ("evaluate", {"folds": 4})),
        curves=[
            epoch(fold, e, "momentum" if e < 3 else "adaptive", None if e == 0 else 1.0)
            for fold in ("Fold 1", "Fold 2")
            for e in range(6)
        ],
        pseudo_labels=[
            {
                "phase": "momentum",
                "target": "sex",
                "missing": 45,
                "given": 40,
                "mean_confidence": 0.978,
                "categories": "M: 31, F: 9",
                "known": 83,
                "agreement": 0.9759,
            },
            {
                "phase": "momentum",
                "target": "age",
                "missing": 51,
                "given": 51,
                "mean_confidence": float("nan"),
                "categories": "13.5 to 50.4",
                "known": 77,
                "agreement": 7.319,
            },
        ],
        quality={
            "scans": N,
            "skipped": {},
            "constant regions, in scans": {"Dead_L": N, **{f"R{i}": i + 1 for i in range(60)}},
        },
        subgroups=tuple(
            Subgroup("diagnosis", "site", f"<{name}>", "auroc", "linear", n, n, *found)
            for name, n, found in (("few", 6, ()), ("many", 40, (AUROC, AUROC, APART, 0.012)))
        ),
        together={"age": 0.02, "diagnosis": 0.3},
        provenance={
            "versions": {"torch": "2"},
            "seed": 1,
            "tokens": np.int64(12),
            "rate": float("nan"),
        },
    )


def text_of(page: str) -> str:
    """What a reader reads: no markup, no styles."""
    bare = re.sub(r"</?span[^>]*>", "", page)
    bare = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", bare, flags=re.DOTALL))
    return re.sub(r"\s+", " ", html.unescape(bare))


def small(tmp_path: Path, **changes: Any) -> str:
    only = replace(report(), targets=report().targets[1:2], curves=(), pseudo_labels=(), **changes)
    return write_report(only, tmp_path / "r").read_text(encoding="utf-8")


def apart(t: TargetResult, **leads: tuple[float, float]) -> TargetResult:
    """With other intervals of the deciding differences, by name ('_' for a space)."""
    less = dict(t.differences)
    for name, (low, high) in leads.items():
        key = {"told": TOLD}.get(name, name.replace("_", " "))
        ends = {"value": (low + high) / 2, "low": low, "high": high}
        less[key] = tuple(
            replace(m, **ends) if m.name == t.deciding else m for m in t.differences[key]
        )
    return replace(t, differences=less)
