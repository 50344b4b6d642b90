"""The recipe of a sweep: many runs of one run recipe, what they may cost, and how they are fitted.

Loaded by `config.load(SweepRecipe, path, overrides)`, as every recipe is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class BudgetConfig:
    """What a sweep may cost, and on what it is counted."""

    gpu: str = "H100"  # A100, H100, H200, or cpu: one core
    mfu: float = 0.4  # share of the card's bf16 peak
    step_ms: float = 15.0  # no optimiser step takes less: small models wait for kernels to start
    start_seconds: float = 20.0  # of each point, until its first step
    price: float = 3.0  # of an hour of one card
    currency: str = "USD"
    gpu_hours: float | None = None  # the dearest points are left out until the rest fits
    money: float | None = None


@dataclass
class AssumeConfig:
    """The truth from which `sweep plan` simulates: what each term adds to the loss at the middle of
    the design."""

    law: str = "chinchilla"
    E: float = 0.55
    size: float = 0.10
    data: float = 0.20
    a: float = 0.35
    b: float = 0.35
    noise: float = 0.02  # standard deviation of the log of one run's loss
    draws: int = 100


@dataclass
class FitConfig:
    laws: list[str] = field(default_factory=lambda: ["data", "chinchilla", "repeated", "overfit"])
    parameters: str = "all"  # N: all, or body (without embeddings)
    data: str = "seen"  # D: seen (scans times epochs), scans, subjects
    epoch: str = "chosen"  # the loss at the epoch that validation chose, or the last one
    bootstrap: int = 200
    seed: int = 0


@dataclass
class SweepRecipe:
    """Many runs of one recipe. Axes are keys of that recipe, or size, subjects, epochs, lr,
    weight_decay, label_share, fold, draw (which people make a subset; default: the seed); a value
    that is a mapping sets several keys at once."""

    name: str = ""
    title: str = ""
    runs_dir: str = "runs"
    recipe: str = ""  # the run that is varied: a file, found beside this one
    overrides: list[str] = field(default_factory=list)  # key=value, on that recipe
    set: list[str] = field(
        default_factory=list
    )  # more of them, laid over those: what a command line adds
    shards_dir: str = ""  # of that recipe, where it is another
    design: str = "grid"  # grid, isoflop (epochs follow from flops), lr_transfer (which rate is best at each size)
    axes: dict[str, Any] = field(default_factory=dict)
    also: list[dict[str, Any]] = field(
        default_factory=list
    )  # further grids; a point that stands twice runs once
    flops: list[float] = field(
        default_factory=list
    )  # isoflop: training FLOPs of a run, one slice each
    max_epochs: int = 400  # isoflop: points that would need more are left out
    baselines: list[str] = field(
        default_factory=lambda: ["linear"]
    )  # at each number of subjects, on the same people
    people: int = 1000  # plan: training people of a fold, where no shards are there to count
    retries: int = 2  # of a point whose process died
    keep_checkpoints: bool = False  # else a finished point keeps the chosen epoch's weights alone
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    assume: AssumeConfig = field(default_factory=AssumeConfig)
    fit: FitConfig = field(default_factory=FitConfig)
