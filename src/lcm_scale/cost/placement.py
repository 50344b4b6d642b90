"""Where a run goes on a cluster: each strategy's memory, step time, communication and price, and
the cheapest that fits.

Arithmetic, not measurement: compute at a stated share of the card's peak (or at what `gpu=yours`
measured), a ring's volumes over the slower of the two links, nothing overlapped. So it errs to the
side of fewer cards. `benchmarks/strategies.py` holds bytes sent and memory against gloo runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lcm_scale.config import BudgetConfig, Recipe
from lcm_scale.cost.count import Cost, Memory, memory_of
from lcm_scale.cost.time import UPDATE_BYTES, hours_of
from lcm_scale.errors import InputError
from lcm_scale.hardware.cards import USABLE, card_of

# DeepSpeed's buffers, in numbers; its default for the first, 5e8, is 2 GB a rank. Up to the second,
# weights that the third stage gathered for the forward pass stay for the backward pass (its
# default).
ZERO_BUCKET, ZERO_GATHERED = 50_000_000, 1_000_000_000
STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
BETWEEN_NODES = 50e9  # bytes/s of a card: 400 Gbit/s InfiniBand
TO_HOST, HOST_MEMORY = (
    25e9,
    100e9,
)  # bytes/s: PCIe 4 of a card, a host's memory, which its cards share
# Collective -> how many times it moves all weights' numbers in a step, by strategy.
COLLECTIVES = {
    "auto": {},
    "ddp": {"all_reduce": 1},
    "zero1": {"reduce": 1, "all_gather": 1},
    "zero2": {"reduce": 1, "all_gather": 1},
    "zero3": {"reduce_scatter": 1, "all_gather": 1},
}
# What fits first is taken: running layers again costs a third more arithmetic, offload the way to
# the host and back.
LADDER = ((False, False), (True, False), (False, True), (True, True))


@dataclass(frozen=True)
class Placement:
    """One way to run.

    Attributes:
        strategy: of the recipe.   cards: in all.   layers_again: trainer.checkpoint_layers.
            offload: trainer.offload.
        memory: bytes on one card.   sent: bytes that one card sends in a step.   step: seconds.
        hours: wall clock of the run.   card_hours: cards times hours.   fits: the card holds it.
    """

    strategy: str
    cards: int
    layers_again: bool
    offload: bool
    memory: float
    sent: float
    step: float
    hours: float
    card_hours: float
    fits: bool


def placements(
    recipe: Recipe, counted: Cost, nodes: int, per_node: int, budget: BudgetConfig
) -> list[Placement]:
    """One card, one node and all nodes under each strategy, cheapest first; each with layers run
    again or offload only where it does not fit without.

    Args: counted: what `cost` counted of the recipe.
    Raises: InputError where nothing says how many scans there are, or the machines are none.
    """
    if nodes < 1 or per_node < 1:
        raise InputError(f"nodes={nodes} gpus_per_node={per_node}: both are at least 1")
    if counted.steps is None:
        raise InputError(
            "a plan needs data: name a shard set (data=abide) or a number of scans (data.scans=10000)"
        )
    made = []
    for cards in sorted({1, per_node, nodes * per_node}):
        for strategy in STRATEGIES if cards > 1 else ("auto",):
            rungs = []
            for again, offload in LADDER:
                # On one card DeepSpeed's second stage is what can offload.
                name = "zero2" if offload and strategy == "auto" else strategy
                if not offload or name.startswith("zero"):
                    rungs.append(
                        _placed(recipe, counted, name, cards, per_node, again, offload, budget)
                    )
            made.append(next((way for way in rungs if way.fits), rungs[-1]))
    return sorted(made, key=lambda p: (not p.fits, p.card_hours, p.hours))


def sent_bytes(strategy: str, parameters: int, cards: int) -> float:
    """Bytes that one card sends in a step, over rings; weights and gradients travel in fp32."""
    numbers = {name: times * parameters for name, times in COLLECTIVES[strategy].items()}
    if strategy == "zero3":  # what did not stay gathered is gathered once more in backward
        numbers["all_gather"] += max(0, parameters - ZERO_GATHERED)
    ring = {"all_reduce": 2, "reduce": 1, "reduce_scatter": 1, "all_gather": 1}
    return sum(4 * count * ring[name] for name, count in numbers.items()) * (cards - 1) / cards


def card_bytes(
    kept: Memory, parameters: int, strategy: str, cards: int, offload: bool = False
) -> float:
    """Bytes on one card at a step's fullest moment.

    ZeRO cuts the optimiser's state into shares, the second stage gradients too, the third weights
    too; it adds a master copy of a card's share, two and a half buckets (what is being reduced,
    flattened once, and the gradients of the layer at work), and under the third stage the weights
    that stay gathered. Activations and bf16 copies are gone by the time ZeRO's gradients are there,
    so the larger of the two counts. Within a tenth of gloo runs of 72 and 214 M parameters.
    """
    if not strategy.startswith("zero"):
        return kept.total
    whole, trained = 4 * parameters, kept.gradients
    share = trained / cards
    bucket = min(4 * ZERO_BUCKET, trained)
    on_the_way = kept.weights - whole + kept.activations + kept.workspace
    state = 0.0 if offload else kept.optimiser / cards + share
    piece = 0.0 if offload else share  # of the gradients
    if strategy == "zero1":
        return whole + state + max(on_the_way, trained + piece + bucket)
    if strategy == "zero2":
        return whole + state + max(on_the_way, piece + 2.5 * bucket)
    weights = (0.0 if offload else whole / cards) + min(whole, 4 * ZERO_GATHERED)
    return weights + state + piece + bucket + max(on_the_way, 1.5 * bucket)


def _placed(
    recipe: Recipe,
    counted: Cost,
    strategy: str,
    cards: int,
    per_node: int,
    again: bool,
    offload: bool,
    budget: BudgetConfig,
) -> Placement:
    model, card, parameters = counted.model, card_of(budget.gpu), counted.parameters
    batch = math.ceil(recipe.trainer.global_batch / cards)
    kept = memory_of(recipe, model, card.precision_for(model.width), batch, again)
    held = card_bytes(kept, parameters, strategy, cards, offload)
    trained = kept.gradients // 4
    sent = sent_bytes(strategy, trained, cards)
    step = (
        3600 * hours_of(model, batch, 1, budget, recipe.optim.trainable) * (4 / 3 if again else 1)
    )
    step += sent / (card.link if cards <= per_node else min(card.link, BETWEEN_NODES))
    if offload:
        # gradients to the host, weights back, the update in its memory
        step += (
            8 * trained / TO_HOST + UPDATE_BYTES * trained * min(cards, per_node) / HOST_MEMORY
        ) / cards
    assert counted.steps is not None
    hours = counted.steps * step / 3600
    fits = held <= USABLE * card.memory
    return Placement(strategy, cards, again, offload, held, sent, step, hours, cards * hours, fits)


def recommended(ways: Sequence[Placement], budget: BudgetConfig, cards: int) -> list[str]:
    """What to do, the last line beginning with `Recommended:`.  Raises: InputError where nothing
    fits."""
    best = ways[0]
    if not best.fits:
        raise InputError(
            f"no strategy fits {cards} x {budget.gpu}: more cards, a smaller trainer.global_batch or model"
        )
    lines = []
    side_by_side = cards // best.cards
    if side_by_side > 1:
        lines.append(
            f"the other {cards - best.cards} GPUs serve best with folds, seeds or sizes side by side: "
            f"{side_by_side} such runs at a time"
        )
    many = "one GPU" if best.cards == 1 else f"{best.cards} GPUs"
    how = [budget.gpu]
    if best.strategy != "auto":
        how.append(f"trainer.strategy={best.strategy}")
    if best.layers_again:
        how.append("trainer.checkpoint_layers=true")
    if best.offload:
        how.append("trainer.offload=true")
    lines.append(
        f"Recommended: {many} ({', '.join(how)}): {best.hours:.2g} hours, {best.memory / 1e9:.1f} GB, "
        f"{best.card_hours * budget.price:.2f} {budget.currency}"
    )
    return lines


def recipe_for(recipe: Recipe, way: Placement, per_node: int) -> Recipe:
    """The recipe, to be run in this way."""
    trainer = replace(
        recipe.trainer,
        strategy=way.strategy,
        devices=min(way.cards, per_node),
        nodes=math.ceil(way.cards / per_node),
        checkpoint_layers=way.layers_again,
        offload=way.offload,
    )
    return replace(recipe, name=recipe.name or recipe.model.preset, trainer=trainer)
