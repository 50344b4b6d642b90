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
from dataclasses import dataclass, replace

import numpy as np

from lcm_scale.config import BudgetConfig, Recipe, TrainerConfig
from lcm_scale.cost.choice import choose
from lcm_scale.cost.count import DEFAULT_REGIONS, DEFAULT_TARGET_TOKENS, Job, job_for
from lcm_scale.cost.placement import Placement, Way, placed, placements, reason, settings, way_of
from lcm_scale.cost.time import card_flops
from lcm_scale.data.sets import open_sets
from lcm_scale.errors import InputError
from lcm_scale.hardware.cards import Card, card_of
from lcm_scale.hardware.machine import Machine
from lcm_scale.model.flops import parameter_count
from lcm_scale.model.presets import resolve
from lcm_scale.sweep.points import Point, Sweep
from lcm_scale.sweep.trunks import trunk_of


@dataclass(frozen=True)
class PlannedPoint:
    """A point's cost.

    Attributes:
        hours: of all its cards together.
        spared_hours: not run, because the point starts from a shorter one's stable part.
        placement: the way that its run takes: what its recipe names, or the quickest that fits.
        advice: what would make it fit where that way does not; empty where it does.
    """

    point: Point
    parameters: int
    people: int
    steps: int
    flops: float
    hours: float
    spared_hours: float
    placement: Placement
    advice: str = ""


@dataclass(frozen=True)
class Counted:
    """The data that points are counted on.

    Attributes:
        tokens: of each target.
        people: training people of a fold.
        scans_each: scans a person.
        origin: where these come from, for people to read.
    """

    tokens: tuple[int, ...]
    regions: int
    people: int
    scans_each: float
    origin: str


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
    def warnings(self) -> tuple[str, ...]:
        """One line for each point that its card cannot hold as its recipe stands."""
        gpu = self.sweep.recipe.budget.gpu
        return tuple(
            f"does not fit {gpu}: {p.point.name} needs {p.placement.memory / 1e9:.1f} GB a card: "
            f"{p.advice}"
            for p in self.points
            if not p.placement.fits
        )

    @property
    def runnable(self) -> tuple[Point, ...]:
        """Planned points, then the baselines."""
        return (*(p.point for p in self.points), *(p for p in self.sweep.points if p.is_baseline))


def plan(sweep: Sweep) -> Plan:
    """Cost every point and leave out, dearest first, what the budget does not hold.  Raises:
    InputError."""
    budget = sweep.recipe.budget
    card = card_of(budget.gpu)  # before anything else is read
    counted = _counted(sweep)
    rows = []
    for number, point in enumerate(sweep.points):
        if not point.is_baseline:
            _, spared = trunk_of(sweep, point, sweep.points[:number], lambda _: True)
            rows.append(_cost(point, sweep.recipe_of(point), counted, card, budget, spared))
    kept, left_out = _within(rows, budget)
    if not kept:
        raise InputError(
            "no point fits the budget: the cheapest costs "
            + _price(min(r.hours for r in rows), budget)
        )
    return Plan(sweep, tuple(kept), (*sweep.left_out, *left_out), counted.origin)


# -- cost ------------------------------------------------------------------------------------------


def _cost(
    point: Point, recipe: Recipe, counted: Counted, card: Card, budget: BudgetConfig, spared: int
) -> PlannedPoint:
    """A point's cost as its recipe states it; `spared`: epochs that another point runs for it."""
    people = point.subjects or counted.people
    scans = round(people * counted.scans_each)
    batch = recipe.trainer.global_batch
    steps_each = max(1, math.ceil(scans / batch))
    steps = point.epochs * math.ceil(scans / batch)
    model = resolve(recipe.model, counted.regions, counted.tokens)
    job = replace(
        job_for(recipe, model, min(steps, recipe.trainer.max_steps or steps)),
        batch=min(batch, scans),
    )
    way = _way(job, card, recipe.trainer, budget.gpu)
    found = placed(job, way, card, budget)
    whole_step = card_flops(job, card, 1, way.checkpoint_layers, way.accumulate)
    spared_hours = found.card_hours * spared / point.epochs
    return PlannedPoint(
        point=point,
        parameters=parameter_count(job.model),
        people=people,
        steps=job.steps,
        flops=job.steps / steps_each * scans / job.batch * whole_step,
        hours=found.card_hours - spared_hours + budget.start_seconds / 3600,
        spared_hours=spared_hours,
        placement=found,
        advice="" if found.fits else _advice(job, card, recipe.trainer, budget),
    )


def _way(job: Job, card: Card, trainer: TrainerConfig, gpu: str) -> Way:
    """As the run would take it; where nothing fits, as its recipe stands."""
    try:
        return choose(job, Machine(card, gpu, trainer.nodes, trainer.devices), trainer).way
    except InputError:
        return way_of(trainer)


def _advice(job: Job, card: Card, trainer: TrainerConfig, budget: BudgetConfig) -> str:
    """What the planner would do on as many cards as the recipe names."""
    best = placements(job, card, trainer.nodes, trainer.devices, budget)[0]
    if not best.fits:
        return "no strategy does; more cards, or a smaller trainer.global_batch or model"
    return "; ".join(filter(None, (" ".join(settings(best.way)), reason(best))))


def _counted(sweep: Sweep) -> Counted:
    """What the sweep's own shards hold, or what is assumed where there are none."""
    base = sweep.base
    try:
        sets = open_sets(base.data)
    except InputError:
        return Counted(
            DEFAULT_TARGET_TOKENS,
            DEFAULT_REGIONS,
            sweep.recipe.people,
            1.0,
            f"no shards here: {sum(DEFAULT_TARGET_TOKENS)} tokens, "
            f"{sweep.recipe.people} training people a fold (people=...)",
        )
    scans = sets.scans_of([base.evaluate.set or sets.names[-1]])
    persons = len(np.unique(sets.subject[scans]))
    people = int(persons * (1 - 1 / base.evaluate.folds) * (1 - base.data.validation))
    tokens = tuple(t.n_tokens for t in sets.vocabulary.targets)
    return Counted(
        tokens,
        sets.atlas.n_regions,
        people,
        len(scans) / persons,
        f"{', '.join(sets.names)}: {sum(tokens)} tokens, about {people} training people a fold",
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
