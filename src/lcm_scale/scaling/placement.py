"""Where a run goes on a cluster: each strategy's memory, step time, communication and price, and the cheapest that fits.

Arithmetic, not measurement: compute at a stated share of the card's peak, a ring's volumes over the slower of the two
links, nothing overlapped. So it errs to the side of fewer cards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lcm_scale.config import Recipe
from lcm_scale.errors import InputError
from lcm_scale.model.flops import parameter_count
from lcm_scale.model.presets import LCMConfig
from lcm_scale.scaling.cost import Cost, Memory, memory
from lcm_scale.scaling.plan import USABLE, card_of, hours_of
from lcm_scale.sweep_config import BudgetConfig

STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
WITHIN_NODE, BETWEEN_NODES = 300e9, 50e9  # bytes/s of a card's link: NVLink, 400 Gbit/s InfiniBand


@dataclass(frozen=True)
class Placement:
    """One way to run.

    Attributes:
        strategy: of the recipe.   cards: in all.   layers_again: trainer.checkpoint_layers.
        memory: bytes on one card.   sent: bytes that one card sends in a step.   step: seconds.
        hours: wall clock of the run.   card_hours: cards times hours.   fits: the card holds it.
    """

    strategy: str
    cards: int
    layers_again: bool
    memory: float
    sent: float
    step: float
    hours: float
    card_hours: float
    fits: bool


def placements(recipe: Recipe, counted: Cost, nodes: int, per_node: int, budget: BudgetConfig) -> list[Placement]:
    """One card, one node and all nodes under each strategy, cheapest first.

    Args: counted: what `cost` counted of the recipe.
    Raises: InputError where nothing says how many scans there are, or the machines are none.
    """
    if nodes < 1 or per_node < 1:
        raise InputError(f"nodes={nodes} gpus_per_node={per_node}: both are at least 1")
    if counted.steps is None:
        raise InputError("a plan needs data: name a shard set (data=abide) or a number of scans (data.scans=10000)")
    ways = [("auto", 1)]
    for cards in sorted({per_node, nodes * per_node} - {1}):
        ways += [(strategy, cards) for strategy in STRATEGIES]
    made = [
        _placed(recipe, counted.model, counted.steps, strategy, cards, per_node, again, budget)
        for strategy, cards in ways
        for again in (False, True)
    ]
    return sorted(made, key=lambda p: (not p.fits, p.card_hours, p.hours))


def sent_bytes(strategy: str, parameters: int, cards: int) -> float:
    """Bytes that one card sends in a step, over a ring, weights and gradients in fp32."""
    share = (cards - 1) / cards
    # ddp: gradients are reduced and spread; zero1, zero2: gradients reduced, weights spread; zero3: weights spread before
    # forward and again before backward, gradients reduced.
    return {"auto": 0, "ddp": 2, "zero1": 2, "zero2": 2, "zero3": 3}[strategy] * share * 4 * parameters


def card_bytes(kept: Memory, strategy: str, cards: int) -> float:
    """Bytes on one card: ZeRO-1 cuts the optimiser's state, ZeRO-2 the gradients too, ZeRO-3 the weights too
    (those of the layer at work, gathered whole, come on top)."""
    stage = STRATEGIES.index(strategy) if strategy in STRATEGIES else 0
    cut = (kept.optimiser, kept.gradients, kept.weights)
    return kept.total - sum(cut[:stage]) * (cards - 1) / cards


def _placed(recipe: Recipe, model: LCMConfig, steps: int, strategy: str, cards: int, per_node: int, again: bool,
            budget: BudgetConfig) -> Placement:  # fmt: skip
    batch = math.ceil(recipe.trainer.global_batch / cards)
    held = card_bytes(memory(model, "bf16-mixed", batch, again), strategy, cards)
    sent = sent_bytes(strategy, parameter_count(model), cards)
    compute = 3600 * hours_of(model, batch, 1, budget) * (4 / 3 if again else 1)
    step = compute + sent / (WITHIN_NODE if cards <= per_node else BETWEEN_NODES)
    hours = steps * step / 3600
    fits = held <= USABLE * card_of(budget.gpu).memory
    return Placement(strategy, cards, again, held, sent, step, hours, cards * hours, fits)


def recommended(ways: Sequence[Placement], budget: BudgetConfig, cards: int) -> list[str]:
    """What to do, the last line beginning with `Recommended:`.  Raises: InputError where nothing fits."""
    best = ways[0]
    if not best.fits:
        raise InputError(
            f"no strategy fits {cards} x {budget.gpu}: more cards, a smaller trainer.global_batch or model"
        )
    lines = []
    side_by_side = cards // best.cards
    if side_by_side > 1:
        lines.append(f"the other {cards - best.cards} GPUs serve best with folds, seeds or sizes side by side: "
                     f"{side_by_side} such runs at a time")  # fmt: skip
    many = "one GPU" if best.cards == 1 else f"{best.cards} GPUs, trainer.strategy={best.strategy}"
    again = ", trainer.checkpoint_layers=true" if best.layers_again else ""
    lines.append(
        f"Recommended: {many} ({budget.gpu}{again}): {best.hours:.2g} hours, {best.memory / 1e9:.1f} GB, "
        f"{best.card_hours * budget.price:.2f} {budget.currency}"
    )
    return lines
