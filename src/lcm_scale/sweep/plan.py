"""What a sweep will cost and what it can tell, before anything runs and without any shards.

Time is arithmetic on the exact FLOPs of the formulation that would run: FLOPs over the card's peak
times the MFU that the recipe states, plus what the optimiser moves through memory, but no step
below `budget.step_ms`, since a small model waits for its kernels to start. What a design can
identify is found by simulation: losses drawn from assumed coefficients on the planned points,
refitted, and the spread of the estimates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.config import BudgetConfig, Recipe
from lcm_scale.cost.count import DEFAULT_REGIONS, DEFAULT_TARGET_TOKENS
from lcm_scale.cost.time import flops_on, hours_of
from lcm_scale.data.sets import open_sets
from lcm_scale.errors import InputError
from lcm_scale.hardware.cards import card_of
from lcm_scale.model.flops import (
    parameter_count,
)
from lcm_scale.model.presets import resolve
from lcm_scale.sweep.points import Point, Sweep
from lcm_scale.sweep.trunks import trunk_of


@dataclass(frozen=True)
class PlannedPoint:
    """A point's cost.  Attributes: spared_hours: not run, because the point starts from a shorter
    one's stable part."""

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


def plan(sweep: Sweep) -> Plan:
    """Cost every point and leave out, dearest first, what the budget does not hold.  Raises:
    InputError."""
    budget = sweep.recipe.budget
    card_of(budget.gpu)  # before anything else is read
    tokens, regions, people, scans_each, counted = _data(sweep)
    rows = []
    for number, point in enumerate(sweep.points):
        if not point.is_baseline:
            _, spared = trunk_of(sweep, point, sweep.points[:number], lambda _: True)
            rows.append(
                _cost(
                    point,
                    sweep.recipe_of(point),
                    tokens,
                    regions,
                    point.subjects or people,
                    scans_each,
                    budget,
                    spared,
                )
            )
    kept, left_out = _within(rows, budget)
    if not kept:
        raise InputError(
            "no point fits the budget: the cheapest costs "
            + _price(min(r.hours for r in rows), budget)
        )
    return Plan(sweep, tuple(kept), (*sweep.left_out, *left_out), counted)


# -- cost ------------------------------------------------------------------------------------------


def _cost(
    point: Point,
    recipe: Recipe,
    tokens: tuple[int, ...],
    regions: int,
    people: int,
    scans_each: float,
    budget: BudgetConfig,
    spared: int,
) -> PlannedPoint:
    model = resolve(recipe.model, regions, tokens)
    scans = round(people * scans_each)
    batch = recipe.trainer.global_batch
    steps = point.epochs * math.ceil(scans / batch)
    steps = min(steps, recipe.trainer.max_steps or steps)
    size = min(batch, scans)
    flops = (
        steps
        / max(1, math.ceil(scans / batch))
        * scans
        / size
        * flops_on(card_of(budget.gpu), model, size)
    )
    training = hours_of(model, size, steps, budget)
    spared_hours = training * spared / point.epochs
    hours = training - spared_hours + budget.start_seconds / 3600
    return PlannedPoint(point, parameter_count(model), people, steps, flops, hours, spared_hours)


def _data(sweep: Sweep) -> tuple[tuple[int, ...], int, int, float, str]:
    """Tokens a target, regions, training people of a fold, scans a person, and where these come
    from."""
    base = sweep.base
    try:
        sets = open_sets(base.data)
    except InputError:
        return (
            DEFAULT_TARGET_TOKENS,
            DEFAULT_REGIONS,
            sweep.recipe.people,
            1.0,
            (
                f"no shards here: {sum(DEFAULT_TARGET_TOKENS)} tokens, {sweep.recipe.people} training people a fold (people=...)"
            ),
        )
    scans = sets.scans_of([base.evaluate.set or sets.names[-1]])
    persons = len(np.unique(sets.subject[scans]))
    people = int(persons * (1 - 1 / base.evaluate.folds) * (1 - base.data.validation))
    tokens = tuple(t.n_tokens for t in sets.vocabulary.targets)
    return (
        tokens,
        sets.atlas.n_regions,
        people,
        len(scans) / persons,
        (f"{', '.join(sets.names)}: {sum(tokens)} tokens, about {people} training people a fold"),
    )


def _within(
    rows: Sequence[PlannedPoint], budget: BudgetConfig
) -> tuple[list[PlannedPoint], list[tuple[str, str]]]:
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
