"""What a sweep will cost and what it can tell, before anything runs and without any shards.

Time is arithmetic on the exact FLOPs of the formulation that would run: FLOPs over the card's peak times the MFU that the
recipe states, plus what the optimiser moves through memory, but no step below `budget.step_ms`, since a small model waits
for its kernels to start. What a design can identify is found by simulation: losses drawn from assumed coefficients on the
planned points, refitted, and the spread of the estimates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lcm_scale.config import Recipe, load
from lcm_scale.data.sets import open_sets
from lcm_scale.errors import InputError
from lcm_scale.model.flops import formulation_of, once_flops, parameter_count, trained_parameters, training_flops
from lcm_scale.model.presets import PRESETS, LCMConfig, resolve
from lcm_scale.hardware.cards import CARDS, USABLE, Card, card_of
from lcm_scale.cost.count import DEFAULT_REGIONS, DEFAULT_TARGET_TOKENS, memory
from lcm_scale.laws.fit import LEVEL, check, fit
from lcm_scale.laws.laws import Runs, Scale, law_of
from lcm_scale.sweep.points import Point, Sweep
from lcm_scale.sweep.trunks import trunk_of
from lcm_scale.config import BudgetConfig, SweepRecipe
from lcm_scale.hardware.precision import working_dtype

UPDATE_BYTES = 28  # a parameter and step: gradient read, weight and two moments read and written, fp32


@dataclass(frozen=True)
class PlannedPoint:
    """A point's cost.  Attributes: spared_hours: not run, because the point starts from a shorter one's stable part."""

    point: Point
    parameters: int
    people: int
    steps: int
    flops: float
    hours: float
    spared_hours: float


@dataclass(frozen=True)
class Plan:
    """A sweep as it would run.

    Attributes:
        points: those that run, in order; baselines are not counted, they cost no card.
        left_out: (name, reason).
        counted: where tokens and people come from, for people to read.
    """

    sweep: Sweep
    points: tuple[PlannedPoint, ...]
    left_out: tuple[tuple[str, str], ...]
    counted: str

    @property
    def hours(self) -> float:
        return sum(p.hours for p in self.points)

    @property
    def money(self) -> float:
        return self.hours * self.sweep.recipe.budget.price

    @property
    def flops(self) -> float:
        return sum(p.flops for p in self.points)

    @property
    def runnable(self) -> tuple[Point, ...]:
        """Planned points, then the baselines."""
        return (*(p.point for p in self.points), *(p for p in self.sweep.points if p.is_baseline))


@dataclass(frozen=True)
class Identified:
    """One coefficient of the assumed law, as the design would estimate it: the middle and 95 % of the simulated estimates."""

    name: str
    truth: float
    median: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Estimated to better than its own size."""
        return self.high - self.low < abs(self.truth)


def plan(sweep: Sweep) -> Plan:
    """Cost every point and leave out, dearest first, what the budget does not hold.  Raises: InputError."""
    budget = sweep.recipe.budget
    card_of(budget.gpu)  # before anything else is read
    tokens, regions, people, scans_each, counted = _data(sweep)
    rows = []
    for number, point in enumerate(sweep.points):
        if not point.is_baseline:
            _, spared = trunk_of(sweep, point, sweep.points[:number], lambda _: True)
            rows.append(
                _cost(
                    point, sweep.recipe_of(point), tokens, regions, point.subjects or people, scans_each, budget, spared
                )
            )
    kept, left_out = _within(rows, budget)
    if not kept:
        raise InputError("no point fits the budget: the cheapest costs " + _price(min(r.hours for r in rows), budget))
    return Plan(sweep, tuple(kept), (*sweep.left_out, *left_out), counted)


def identify(made: Plan) -> list[Identified]:
    """Simulate the planned design from `assume`.  Raises: InputError where it is too small for the law."""
    recipe = made.sweep.recipe
    law = law_of(recipe.assume.law)
    runs = design_of(made)
    check(law, runs)
    scale = Scale.of(runs)
    a = recipe.assume
    known = {"E": a.E, "A": a.size, "B": a.data, "P": 0.05, "a": a.a, "b": a.b, "R": 15.0, "c": 0.5}
    truth = np.array([known[name] for name in law.names])
    clean = law.predict(runs, scale, truth)
    rng = np.random.default_rng(0)
    draws = np.array([
        fit(law, runs.with_loss(clean * np.exp(a.noise * rng.standard_normal(len(runs)))), scale).values
        for _ in range(a.draws)
    ])  # fmt: skip
    low, middle, high = np.percentile(draws, [50 * (1 - LEVEL), 50, 50 * (1 + LEVEL)], axis=0)
    return [
        Identified(*row)
        for row in zip(law.names, truth.tolist(), middle.tolist(), low.tolist(), high.tolist(), strict=True)
    ]


def design_of(made: Plan) -> Runs:
    """The planned points as a law sees them, without losses."""
    columns = [(p.parameters, p.people * p.point.epochs, p.people, p.point.epochs) for p in made.points]
    parameters, seen, unique, epochs = np.array(columns, float).T
    return Runs(np.ones(len(columns)), parameters, seen, unique, epochs, np.arange(len(columns)))


# -- cost ---------------------------------------------------------------------------------------------------------------


def hours_of(model: LCMConfig, scans_a_step: int, steps: int, budget: BudgetConfig, trainable: str = "all") -> float:
    """Hours on one card, without the start."""
    card = card_of(budget.gpu)
    flops = flops_on(card, model, scans_a_step, trainable)
    rate, floor = (card.peak, 0.0) if card.measured else (card.peak * budget.mfu, budget.step_ms / 1000)
    step = flops / rate + UPDATE_BYTES * trained_parameters(model, trainable) / card.bandwidth
    return steps * max(step, floor) / 3600


def flops_on(card: Card, model: LCMConfig, scans: int, trainable: str = "all") -> int:
    return step_flops(model, scans, card.device, working_dtype(card.precision_for(model.width)), trainable)


def step_flops(model: LCMConfig, scans: int, device: str, dtype: torch.dtype, trainable: str = "all") -> int:
    """FLOPs of one optimiser step, by the formulation that would run there."""
    formulation = formulation_of(model, model.n_tokens, scans, device, dtype)
    once = once_flops(model, trainable=trainable)
    return scans * training_flops(model, formulation, trainable=trainable) + once


def _cost(point: Point, recipe: Recipe, tokens: tuple[int, ...], regions: int, people: int, scans_each: float,
          budget: BudgetConfig, spared: int) -> PlannedPoint:  # fmt: skip
    model = resolve(recipe.model, regions, tokens)
    scans = round(people * scans_each)
    batch = recipe.trainer.global_batch
    steps = point.epochs * math.ceil(scans / batch)
    steps = min(steps, recipe.trainer.max_steps or steps)
    size = min(batch, scans)
    flops = steps / max(1, math.ceil(scans / batch)) * scans / size * flops_on(card_of(budget.gpu), model, size)
    training = hours_of(model, size, steps, budget)
    spared_hours = training * spared / point.epochs
    hours = training - spared_hours + budget.start_seconds / 3600
    return PlannedPoint(point, parameter_count(model), people, steps, flops, hours, spared_hours)


def _data(sweep: Sweep) -> tuple[tuple[int, ...], int, int, float, str]:
    """Tokens a target, regions, training people of a fold, scans a person, and where these come from."""
    base = sweep.base
    try:
        sets = open_sets(base.data)
    except InputError:
        return DEFAULT_TARGET_TOKENS, DEFAULT_REGIONS, sweep.recipe.people, 1.0, (
            f"no shards here: {sum(DEFAULT_TARGET_TOKENS)} tokens, {sweep.recipe.people} training people a fold (people=...)"
        )  # fmt: skip
    scans = sets.scans_of([base.evaluate.set or sets.names[-1]])
    persons = len(np.unique(sets.subject[scans]))
    people = int(persons * (1 - 1 / base.evaluate.folds) * (1 - base.data.validation))
    tokens = tuple(t.n_tokens for t in sets.vocabulary.targets)
    return tokens, sets.atlas.n_regions, people, len(scans) / persons, (
        f"{', '.join(sets.names)}: {sum(tokens)} tokens, about {people} training people a fold"
    )  # fmt: skip


def _within(rows: Sequence[PlannedPoint], budget: BudgetConfig) -> tuple[list[PlannedPoint], list[tuple[str, str]]]:
    limit = min(
        budget.gpu_hours if budget.gpu_hours is not None else math.inf,
        budget.money / budget.price if budget.money is not None else math.inf,
    )
    kept, left_out = list(rows), []
    for row in sorted(rows, key=lambda r: -r.hours):
        if sum(r.hours for r in kept) <= limit:
            break
        kept.remove(row)
        left_out.append((row.point.name, f"over the budget: costs {_price(row.hours, budget)}"))
    return kept, left_out


def _price(hours: float, budget: BudgetConfig) -> str:
    return f"{hours:.3g} {budget.gpu} hours, {hours * budget.price:.3g} {budget.currency}"


# -- the published sizes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedCost:
    """One size on one card: hours of one card, bytes at batch size, and how to run it."""

    size: str
    parameters: int
    card: str
    hours: float
    money: float
    memory: int
    state: int
    strategy: str


def published_costs(scans: int, epochs: int, batch: int, tokens: int, budget: BudgetConfig) -> list[PublishedCost]:
    """What pretraining each published size costs on each card, bf16."""
    rows = []
    sizes = [name for name, size in PRESETS.items() if size.width == 2048]
    for name in sizes:
        model = resolve(load(Recipe, None, [f"model={name}"]).model, DEFAULT_REGIONS, (tokens,))
        steps = epochs * math.ceil(scans / batch)
        kept = memory(model, "bf16-mixed", batch)
        for card in ("A100", "H100", "H200"):
            hours = hours_of(model, batch, steps, replace(budget, gpu=card))
            state = kept.total - kept.activations
            rows.append(
                PublishedCost(name, parameter_count(model), card, hours, hours * budget.price, kept.total, state,
                              _strategy(kept.total, state, CARDS[card].memory))
            )  # fmt: skip
    return rows


def _strategy(total: int, state: int, room: float) -> str:
    """The plainest thing that fits: one card, one card with smaller micro-batches, or the state spread out."""
    if total <= USABLE * room:
        return "one card"
    activations = total - state
    for pieces in (2, 4, 8, 16, 32, 64, 128):
        if state + activations / pieces <= USABLE * room:
            return f"one card, trainer.accumulate={pieces}"
    return "trainer.strategy=zero1"


def assumed(recipe: SweepRecipe) -> str:
    a = recipe.assume
    return f"{a.law}: E {a.E}, size {a.size}, data {a.data}, a {a.a}, b {a.b}, noise {a.noise:.0%}"
