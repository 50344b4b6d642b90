"""The recipe of a sweep: many runs of one run recipe, what they may cost, and how they are fitted.

Loaded by `config.load(SweepRecipe, path, overrides)`, as every recipe is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lcm_scale.config.fields import RUN_NAME, choice, free, named, number, numbers, some_of
from lcm_scale.config.run import BASELINES, FLAG, NAME_IN_WORDS

LAWS = ("data", "chinchilla", "repeated", "overfit", "saturating")
AXES = "laying out the points names an unknown axis or value"
CARDS = ("H100", "A100", "H200", "L40S", "24GB", "RTX 3090", "12GB", "cpu", "yours")


@dataclass
class BudgetConfig:
    """What a sweep may cost, and on what it is counted."""

    # cpu: one core; yours: this machine, measured.
    gpu: str = choice("H100", CARDS)
    # Share of the card's bf16 peak.
    mfu: float = number(0.4, above=0, at_most=1)
    # No optimiser step takes less: small models wait for kernels to start.
    step_ms: float = number(15.0, at_least=0)
    # Of each point, until its first step.
    start_seconds: float = number(20.0, at_least=0)
    # Of an hour of one card.
    price: float = number(3.0, at_least=0)
    currency: str = free("USD", "for people to read")
    # The dearest points are left out until the rest fits.
    gpu_hours: float | None = number(None, at_least=0)
    money: float | None = number(None, at_least=0)


@dataclass
class AssumeConfig:
    """The truth from which `sweep plan` simulates: what each term adds to the loss at the middle of
    the design."""

    law: str = choice("chinchilla", LAWS)
    E: float = number(0.55, at_least=0)
    size: float = number(0.10, at_least=0)
    data: float = number(0.20, at_least=0)
    a: float = number(0.35, above=0)
    b: float = number(0.35, above=0)
    # Standard deviation of the log of one run's loss.
    noise: float = number(0.02, at_least=0)
    draws: int = number(100, at_least=1)


@dataclass
class FitConfig:
    laws: list[str] = some_of(["data", "chinchilla", "repeated", "overfit"], LAWS)
    # N: all, or body (without embeddings).
    parameters: str = choice("all", ("all", "body"))
    # D: seen (scans times epochs), scans, subjects.
    data: str = choice("seen", ("seen", "scans", "subjects"))
    # The loss at the epoch that validation chose, or the last one.
    epoch: str = choice("chosen", ("chosen", "last"))
    bootstrap: int = number(200, at_least=0)
    seed: int = number(0, at_least=0, below=2**32)


@dataclass
class SweepRecipe:
    """Many runs of one recipe. Axes are keys of that recipe, or size, subjects, epochs, lr,
    weight_decay, label_share, fold, draw (which people make a subset; default: the seed); a value
    that is a mapping sets several keys at once."""

    name: str = named("", RUN_NAME, NAME_IN_WORDS)
    title: str = free("", "for people to read")
    runs_dir: str = free("runs", "made where it is not there")
    # The run that is varied: a file, found beside this one.
    recipe: str = free("", "loading it says where nothing is there")
    # key=value, on that recipe.
    overrides: list[str] = free([], "composing that recipe checks them")
    # More of them, laid over those: what a command line adds.
    set: list[str] = free([], "composing that recipe checks them")
    # Of that recipe, where it is another.
    shards_dir: str = free("", "opening the data names the sets that are there")
    # isoflop: epochs follow from flops; lr_transfer: which rate is best at each size.
    design: str = choice("grid", ("grid", "isoflop", "lr_transfer"))
    axes: dict[str, Any] = free({}, AXES)
    # Further grids; a point that stands twice runs once.
    also: list[dict[str, Any]] = free([], AXES)
    # isoflop: training FLOPs of a run, one slice each.
    flops: list[float] = numbers(above=0)
    # isoflop: points that would need more are left out.
    max_epochs: int = number(400, at_least=1)
    # At each number of subjects, on the same people.
    baselines: list[str] = some_of(["linear"], BASELINES)
    # plan: training people of a fold, where no shards are there to count.
    people: int = number(1000, at_least=1)
    # Of a point whose process died.
    retries: int = number(2, at_least=0)
    # Else a finished point keeps the chosen epoch's weights alone.
    keep_checkpoints: bool = free(False, FLAG)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    assume: AssumeConfig = field(default_factory=AssumeConfig)
    fit: FitConfig = field(default_factory=FitConfig)
