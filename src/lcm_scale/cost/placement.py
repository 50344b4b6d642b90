"""The planner: how a job is spread over cards, what each way costs, and the cheapest that fits.

Everything that recommends a way to run asks here (`lcm-scale cost`, `sweep cost`, `sweep plan`,
`doctor`), so one memory count and one time count answer all of them. The ladder of ways is: one
card or several under DDP or ZeRO; layers that run again in backward (`trainer.checkpoint_layers`);
the optimiser's state in the host's memory (`trainer.offload`); smaller micro-batches
(`trainer.accumulate`).

Which rung is taken:
1. What fits goes before what does not.
2. What trains the asked model goes before what trains another. Layers that run again, offload and
   more cards change no number but by rounding: batch norm's statistics are summed over all ranks.
   Micro-batches change them: each is normalised by its own statistics, so `accumulate=16` learns
   another model. It is the last resort, although it costs no FLOP and layers that run again cost
   up to a third more; where it is cheaper than the exact way it is shown beside it, with what it
   changes. Micro-batches as large as the published runs' smallest batch go before smaller ones.
3. Among those, the cheapest by counted card hours.

Arithmetic, not measurement: compute at a stated share of the card's peak (or at what `gpu=yours`
measured), a ring's volumes over the slower of the two links, nothing overlapped. So it errs to the
side of fewer cards. `benchmarks/strategies.py` holds bytes sent and memory against gloo runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lcm_scale.config import BudgetConfig, ModelConfig, Recipe, TrainerConfig
from lcm_scale.cost.count import DEFAULT_REGIONS, Job, Memory, memory
from lcm_scale.cost.time import UPDATE_BYTES, step_seconds
from lcm_scale.errors import InputError
from lcm_scale.hardware.cards import PCIE, USABLE, Card, card_of
from lcm_scale.model.flops import parameter_count
from lcm_scale.model.presets import PRESETS, resolve

# DeepSpeed's buffers, in numbers; its default for the first, 5e8, is 2 GB a rank. Up to the second,
# weights that the third stage gathered for the forward pass stay for the backward pass (its
# default).
ZERO_BUCKET, ZERO_GATHERED = 50_000_000, 1_000_000_000
STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
BETWEEN_NODES = 50e9  # bytes/s of a card: 400 Gbit/s InfiniBand
HOST_MEMORY = 100e9  # bytes/s: a host's memory, which its cards share
# Collective -> how many times it moves all weights' numbers in a step, by strategy.
COLLECTIVES = {
    "auto": {},
    "ddp": {"all_reduce": 1},
    "zero1": {"reduce": 1, "all_gather": 1},
    "zero2": {"reduce": 1, "all_gather": 1},
    "zero3": {"reduce_scatter": 1, "all_gather": 1},
}
# Collectives that each micro-batch runs anew; the rest waits for the step's last one.
EACH_MICRO_BATCH = {"zero2": ("reduce",), "zero3": ("reduce_scatter", "all_gather")}
PUBLISHED_BATCH = 32  # scans: the smallest over which a published run normalised
PUBLISHED_CARDS = ("A100", "H100", "H200")


@dataclass(frozen=True)
class Way:
    """How a step is spread: the part of a recipe's `trainer` that a planner chooses.

    Attributes: cards: in all.   per_node: the most of them that one node holds.
    """

    cards: int = 1
    per_node: int = 1
    strategy: str = "auto"
    checkpoint_layers: bool = False
    offload: bool = False
    accumulate: int = 1


@dataclass(frozen=True)
class Placement:
    """One way to run a job, and what it costs.

    Attributes:
        exact: trains the asked model: no smaller micro-batches than the recipe's.
        normalised: scans whose statistics batch norm takes, of all ranks: of one micro-batch.
        memory: bytes on one card.
        host: bytes in the memory of one node's host, where state is offloaded to it.
        sent: bytes that one card sends in a step.
        step: seconds.
        hours: wall clock of the run.
        card_hours: cards times hours.
        fits: the card holds it.
    """

    way: Way
    exact: bool
    normalised: int
    memory: float
    host: float
    sent: float
    step: float
    hours: float
    card_hours: float
    fits: bool


def placements(
    job: Job, card: Card, nodes: int, per_node: int, budget: BudgetConfig
) -> list[Placement]:
    """The best way on one card, on one node and on all nodes under each strategy, and a cheaper one
    with micro-batches where the best pays to be exact; the one to take first.

    Args: nodes, per_node: machines, and such cards in each.
    Raises: InputError where the machines are none.
    """
    if nodes < 1 or per_node < 1:
        raise InputError(f"nodes={nodes} gpus_per_node={per_node}: both are at least 1")
    found = []
    for cards in sorted({1, per_node, nodes * per_node}):
        for strategy in STRATEGIES if cards > 1 else ("auto",):
            way = Way(cards, per_node, strategy, accumulate=job.accumulate)
            rungs = sorted(
                (placed(job, rung, card, budget) for rung in _ladder(job, way)), key=_rank
            )
            found.append(rungs[0])
            if rungs[0].fits and rungs[0].exact:
                found += [r for r in rungs if r.fits and r.card_hours < rungs[0].card_hours][:1]
    return sorted(found, key=_rank)


def _ladder(job: Job, way: Way) -> Iterator[Way]:
    """A strategy's ways: with and without layers that run again and offload, in the recipe's
    micro-batches and in ever smaller ones."""
    accumulate = way.accumulate
    while True:
        yield from exact_ways(replace(way, accumulate=accumulate))
        accumulate *= 2
        if accumulate * way.cards > job.batch:
            return


def exact_ways(way: Way) -> Iterator[Way]:
    """A strategy's ways in given micro-batches, which all train one model: with and without layers
    that run again and offload."""
    for offload in (False, True):
        strategy = way.strategy
        if offload and strategy == "auto":
            strategy = "zero2"  # on one card DeepSpeed's second stage is what can offload
        if offload and not strategy.startswith("zero"):
            continue
        for recompute in (False, True):
            yield replace(way, strategy=strategy, offload=offload, checkpoint_layers=recompute)


def _rank(found: Placement) -> tuple[int, float, float]:
    """The order at the head of this file as a key; of what does not fit, the smallest comes
    first."""
    if not found.fits:
        return 3, found.memory, found.card_hours
    resort = 0 if found.exact else 1 if found.normalised >= PUBLISHED_BATCH else 2
    return resort, found.card_hours, found.hours


def placed(job: Job, way: Way, card: Card, budget: BudgetConfig) -> Placement:
    """What one way costs on such cards."""
    kept = memory(
        job.model,
        job.precision_on(card),
        math.ceil(job.batch / (way.cards * way.accumulate)),
        way.checkpoint_layers,
        job.trainable,
        job.state,
        card.device,
    )
    trained_bytes = kept.gradients
    held = card_bytes(
        kept, parameter_count(job.model), way.strategy, way.cards, way.offload, way.accumulate
    )
    sent = sent_bytes(way.strategy, trained_bytes // 4, way.cards, way.accumulate)
    step = step_seconds(job, card, budget, way.cards, way.checkpoint_layers, way.accumulate)
    step += sent / link_of(card, way)
    if way.offload:
        # Gradients of each micro-batch to the host, weights back, the update in its memory.
        carried = (way.accumulate + 1) * trained_bytes / PCIE
        updated = UPDATE_BYTES / 4 * trained_bytes * min(way.cards, way.per_node) / HOST_MEMORY
        step += (carried + updated) / way.cards
    hours = job.steps * step / 3600
    return Placement(
        way=way,
        exact=way.accumulate <= job.accumulate,
        normalised=math.ceil(job.batch / way.accumulate),
        memory=held,
        host=host_bytes(kept, parameter_count(job.model), way) if way.offload else 0.0,
        sent=sent,
        step=step,
        hours=hours,
        card_hours=way.cards * hours,
        fits=held <= USABLE * card.memory,
    )


def link_of(card: Card, way: Way) -> float:
    """Bytes/s that a card sends: the slowest link of the ring that all its cards make."""
    return card.link if way.cards <= way.per_node else min(card.link, BETWEEN_NODES)


def sent_bytes(strategy: str, parameters: int, cards: int, accumulate: int = 1) -> float:
    """Bytes that one card sends in a step, over rings; weights and gradients travel in fp32."""
    numbers = {name: times * parameters for name, times in COLLECTIVES[strategy].items()}
    if strategy == "zero3":  # what did not stay gathered is gathered once more in backward
        numbers["all_gather"] += max(0, parameters - ZERO_GATHERED)
    for name in EACH_MICRO_BATCH.get(strategy, ()):
        numbers[name] *= accumulate
    ring = {"all_reduce": 2, "reduce": 1, "reduce_scatter": 1, "all_gather": 1}
    return sum(4 * count * ring[name] for name, count in numbers.items()) * (cards - 1) / cards


def card_bytes(
    kept: Memory,
    parameters: int,
    strategy: str,
    cards: int,
    offload: bool = False,
    accumulate: int = 1,
) -> float:
    """Bytes on one card at a step's fullest moment.

    ZeRO cuts the optimiser's state into shares, the second stage gradients too, the third weights
    too; it adds a master copy of a card's share, two and a half buckets (what is being reduced,
    flattened once, and the gradients of the layer at work), and under the third stage the weights
    that stay gathered. Activations and bf16 copies are gone by the time ZeRO's gradients are there,
    so the larger of the two counts; but where a step has several micro-batches, the gradients of
    the earlier ones stand beside the activations of the next. Within a tenth of gloo runs of 72 and
    214 M parameters, with one micro-batch.
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
        earlier = trained if accumulate > 1 else 0.0
        return whole + state + max(on_the_way + earlier, trained + piece + bucket)
    if strategy == "zero2":
        earlier = piece if accumulate > 1 else 0.0
        return whole + state + max(on_the_way + earlier, piece + 2.5 * bucket)
    weights = (0.0 if offload else whole / cards) + min(whole, 4 * ZERO_GATHERED)
    return weights + state + piece + bucket + max(on_the_way, 1.5 * bucket)


def host_bytes(kept: Memory, parameters: int, way: Way) -> float:
    """Bytes in one node's host memory under offload: the optimiser's state, the master copy and the
    gradients of its cards' shares; under the third stage their weights too."""
    whole = 4 * parameters if way.strategy == "zero3" else 0
    shares = min(way.cards, way.per_node) / way.cards
    return shares * (kept.optimiser + 2 * kept.gradients + whole)


# -- in words, and in a recipe ---------------------------------------------------------------------


def way_of(trainer: TrainerConfig) -> Way:
    """The way that a recipe states."""
    cards = trainer.devices * trainer.nodes
    strategy = "ddp" if trainer.strategy == "auto" and cards > 1 else trainer.strategy
    return Way(
        cards,
        trainer.devices,
        strategy,
        trainer.checkpoint_layers,
        trainer.offload,
        trainer.accumulate,
    )


def settings(way: Way) -> list[str]:
    """The keys of a recipe that make this way, but for the number of cards; none: as it is by
    itself."""
    found = []
    if way.strategy != "auto":
        found.append(f"trainer.strategy={way.strategy}")
    if way.checkpoint_layers:
        found.append("trainer.checkpoint_layers=true")
    if way.offload:
        found.append("trainer.offload=true")
    if way.accumulate > 1:
        found.append(f"trainer.accumulate={way.accumulate}")
    return found


def reason(placement: Placement) -> str:
    """What a way that is not exact changes; empty for an exact one."""
    if placement.exact:
        return ""
    return (
        f"trainer.accumulate={placement.way.accumulate} takes batch norm's statistics from "
        f"{placement.normalised} scans at a time, not from a whole step: another model fit"
    )


def recommended(ways: Sequence[Placement], gpu: str, cards: int, budget: BudgetConfig) -> list[str]:
    """What to do, the last line beginning with `Recommended:`.

    Args: ways: of `placements`.   gpu: the card's name.   cards: how many there are.
    Raises: InputError where nothing fits.
    """
    best = ways[0]
    if not best.fits:
        raise InputError(
            f"no strategy fits {cards} x {gpu}: more cards, a smaller trainer.global_batch or model"
        )
    lines = []
    side_by_side = cards // best.way.cards
    if side_by_side > 1:
        lines.append(
            f"the other {cards - best.way.cards} GPUs serve best with folds, seeds or sizes side "
            f"by side: {side_by_side} such runs at a time"
        )
    if not best.exact:
        lines.append(f"nothing fits that trains the model as asked: {reason(best)}")
    else:
        cheaper = [w for w in ways if w.fits and not w.exact and w.card_hours < best.card_hours]
        for other in cheaper[:1]:
            lines.append(f"cheaper, at {other.card_hours:.2g} GPU hours, but {reason(other)}")
    many = "one GPU" if best.way.cards == 1 else f"{best.way.cards} GPUs"
    lines.append(
        f"Recommended: {many} ({', '.join([gpu, *settings(best.way)])}): {best.hours:.2g} hours, "
        f"{best.memory / 1e9:.1f} GB, {best.card_hours * budget.price:.2f} {budget.currency}"
    )
    return lines


def recipe_for(recipe: Recipe, way: Way) -> Recipe:
    """The recipe, to be run in this way."""
    trainer = replace(
        recipe.trainer,
        strategy=way.strategy,
        devices=min(way.cards, way.per_node),
        nodes=math.ceil(way.cards / way.per_node),
        checkpoint_layers=way.checkpoint_layers,
        offload=way.offload,
        accumulate=way.accumulate,
    )
    return replace(recipe, name=recipe.name or recipe.model.preset, trainer=trainer)


# -- the published sizes ---------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedCost:
    """One published size on one card of a kind."""

    size: str
    parameters: int
    card: str
    placement: Placement


def published_costs(
    scans: int,
    epochs: int,
    batch: int,
    tokens: int,
    budget: BudgetConfig,
    cards: Sequence[str] = PUBLISHED_CARDS,
) -> list[PublishedCost]:
    """What pretraining each published size costs on one card of each kind: the planner's answer.

    Args: scans, epochs: of the cohort.   batch: scans a step.   tokens: of the model.
    """
    rows = []
    for name in (name for name, size in PRESETS.items() if size.width == 2048):
        model = resolve(ModelConfig(preset=name), DEFAULT_REGIONS, (tokens,))
        job = Job(model, batch, steps=epochs * math.ceil(scans / batch))
        for card in cards:
            best = placements(job, card_of(card), 1, 1, budget)[0]
            rows.append(PublishedCost(name, parameter_count(model), card, best))
    return rows
