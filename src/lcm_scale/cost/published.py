"""What pretraining each published size costs on each card."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lcm_scale.config import BudgetConfig, Recipe, load
from lcm_scale.cost.count import DEFAULT_REGIONS, memory
from lcm_scale.cost.time import hours_of
from lcm_scale.hardware.cards import CARDS, USABLE
from lcm_scale.model.flops import parameter_count
from lcm_scale.model.presets import PRESETS, resolve


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


def published_costs(
    scans: int, epochs: int, batch: int, tokens: int, budget: BudgetConfig
) -> list[PublishedCost]:
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
                PublishedCost(
                    name,
                    parameter_count(model),
                    card,
                    hours,
                    hours * budget.price,
                    kept.total,
                    state,
                    _strategy(kept.total, state, CARDS[card].memory),
                )
            )
    return rows


def _strategy(total: int, state: int, room: float) -> str:
    """The plainest thing that fits: one card, one card with smaller micro-batches, or the state
    spread out."""
    if total <= USABLE * room:
        return "one card"
    activations = total - state
    for pieces in (2, 4, 8, 16, 32, 64, 128):
        if state + activations / pieces <= USABLE * room:
            return f"one card, trainer.accumulate={pieces}"
    return "trainer.strategy=zero1"
