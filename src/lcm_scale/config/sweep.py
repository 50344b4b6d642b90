"""The recipe of a sweep: many runs of one run recipe, what they may cost, and how they are fitted.

Loaded by `config.load(SweepRecipe, path, overrides)`, as every recipe is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lcm_scale.config.fields import (
    FILLED,
    RUN_NAME,
    at_least,
    between,
    choice,
    free,
    positive,
    some_of,
    text,
    texts,
)
from lcm_scale.config.run import BASELINES, LARGEST_SEED

LAWS = ("data", "chinchilla", "repeated", "overfit", "saturating")


@dataclass
class BudgetConfig:
    """What a sweep may cost, and on what it is counted."""

    # cpu: one core; yours: this machine, measured
    gpu: str = choice(
        *("H100", "A100", "A100-40GB", "H200", "L40S", "24GB", "RTX 3090", "12GB", "cpu", "yours")
    )
    mfu: float = between(0, 1, 0.4, above=True)  # share of the card's bf16 peak
    # no optimiser step takes less: small models wait for kernels to start
    step_ms: float = at_least(0, 15.0)
    start_seconds: float = at_least(0, 20.0)  # of each point, until its first step
    price: float = at_least(0, 3.0)  # of an hour of one card
    currency: str = text(FILLED, "USD")  # of price and money
    # the dearest points are left out until the rest fits
    gpu_hours: float | None = at_least(0, None)
    money: float | None = at_least(0, None)  # the same in money


@dataclass
class AssumeConfig:
    """The truth from which `sweep plan` simulates: what each term adds to the loss at the middle of
    the design."""

    # its form (docs/scaling.md)
    law: str = choice("chinchilla", *(law for law in LAWS if law != "chinchilla"))
    E: float = at_least(0, 0.55)  # what no size and no data take away
    size: float = at_least(0, 0.10)  # of the model, at the middle
    data: float = at_least(0, 0.20)  # of the data, at the middle
    a: float = positive(0.35)  # exponent of size
    b: float = positive(0.35)  # exponent of data
    noise: float = at_least(0, 0.02)  # standard deviation of the log of one run's loss
    draws: int = at_least(1, 100)  # sweeps that are simulated


@dataclass
class FitConfig:
    # which are fitted (docs/scaling.md)
    laws: list[str] = some_of(LAWS, ("data", "chinchilla", "repeated", "overfit"))
    parameters: str = choice("all", "body")  # N: all, or body (without embeddings)
    data: str = choice("seen", "scans", "subjects")  # D: seen is scans times epochs
    epoch: str = choice(
        "chosen", "last"
    )  # the loss at the epoch that validation chose, or the last
    bootstrap: int = at_least(1, 200)  # draws for the intervals
    seed: int = between(0, LARGEST_SEED, 0)  # of those draws


@dataclass
class SweepRecipe:
    """Many runs of one recipe. Axes are keys of that recipe, or size, subjects, epochs, lr,
    weight_decay, label_share, fold, draw (which people make a subset; default: the seed); a value
    that is a mapping sets several keys at once."""

    name: str = text(RUN_NAME, "")  # of its folder under runs_dir
    title: str = free("")  # heading of the report; default: the name
    runs_dir: str = text(FILLED, "runs")  # where its runs lie
    recipe: str = free("")  # the run that is varied: a file, found beside this one
    overrides: list[str] = texts(unique=False)  # key=value, on that recipe
    # more of them, laid over those: what a command line adds
    set: list[str] = texts(unique=False)
    shards_dir: str = free("")  # of that recipe, where it is another
    # isoflop: epochs follow from flops; lr_transfer: which rate is best at each size
    design: str = choice("grid", "isoflop", "lr_transfer")
    axes: dict[str, Any] = free({})  # key -> values; every combination is a point
    also: list[dict[str, Any]] = free([])  # further grids; a point that stands twice runs once
    flops: list[float] = positive([])  # isoflop: training FLOPs of a run, one slice each
    max_epochs: int = at_least(1, 400)  # isoflop: points that would need more are left out
    # at each number of subjects, on the same people
    baselines: list[str] = some_of(BASELINES, ("linear",))
    people: int = at_least(1, 1000)  # plan: people a fold trains on, where no shards are to count
    retries: int = at_least(0, 2)  # of a point whose process died
    keep_checkpoints: bool = False  # else a finished point keeps the chosen epoch's weights alone
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    assume: AssumeConfig = field(default_factory=AssumeConfig)
    fit: FitConfig = field(default_factory=FitConfig)
