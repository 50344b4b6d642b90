"""`trainer.strategy=auto`: with the processes at hand, the quickest way that fits, and why.

Of all ways that train the asked model on the cards that the run has (placement.py counts each), the
one whose step takes the least time among those that fit; of equally quick ones the one with the
fewest parts: DDP before ZeRO, a lower stage before a higher one, then layers again, then offload. A
smaller micro-batch is never taken: batch norm would see fewer scans, which is another model.

One planner: a run, its dry run, `cost`, `doctor` and `sweep plan` all ask here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lcm_scale.config import BudgetConfig, TrainerConfig
from lcm_scale.cost.count import Job
from lcm_scale.cost.placement import (
    STRATEGIES,
    Placement,
    Way,
    exact_ways,
    link_of,
    placed,
    reason,
    settings,
    way_of,
)
from lcm_scale.errors import InputError
from lcm_scale.hardware.cards import USABLE
from lcm_scale.hardware.machine import Machine
from lcm_scale.hardware.precision import working_dtype
from lcm_scale.model.dispatch import costs
from lcm_scale.model.flops import formulation_of

BUDGET = BudgetConfig()  # at which share of its peak a card trains: no recipe of a run says
MOST_ON_A_NODE, MOST_CARDS = 8, 64  # that are tried when it is said what would fit
NAMED = 3  # of the quicker ways that do not fit


@dataclass(frozen=True)
class Choice:
    """How a run is carried out.

    Attributes:
        reason: why so, in a line.
        warning: what will go wrong, empty where nothing will.
    """

    placement: Placement
    machine: Machine
    reason: str
    warning: str = ""

    @property
    def way(self) -> Way:
        return self.placement.way

    @property
    def text(self) -> str:
        return f"plan: {self.reason}" + (f"\nwarning: {self.warning}" if self.warning else "")

    @property
    def is_usual(self) -> bool:
        """One process of a CPU that does nothing in particular: of that nobody asks why."""
        plain = self.way == Way(accumulate=self.way.accumulate) and not self.warning
        return plain and self.machine.card.device == "cpu"

    def record(self, trainer: TrainerConfig) -> dict[str, Any]:
        """As plain values, for the run's folder."""
        return {
            "settings": settings(self.way),
            "reason": self.reason,
            **_asked(self.machine, trainer),
        }

    def applied(self, trainer: TrainerConfig) -> TrainerConfig:
        """The recipe's part as it runs."""
        return replace(
            trainer,
            strategy=self.way.strategy,
            checkpoint_layers=self.way.checkpoint_layers,
            offload=self.way.offload,
        )


def choose(
    job: Job, machine: Machine, trainer: TrainerConfig, before: Sequence[str] | None = None
) -> Choice:
    """The way of a run: what `trainer.strategy` names, or for `auto` the quickest that fits.

    Args:
        before: the keys (`placement.settings`) of the way that the run took so far on this very
            machine: it is kept.
    Raises: InputError where nothing fits, with what would.
    """
    if trainer.strategy != "auto":
        return _as_asked(job, machine, trainer)
    found = open_ways(job, machine, trainer)
    best = next((one for one in found if _holds(machine, one)), None)
    if best is None:
        raise InputError(_nothing_fits(job, machine, trainer, found))
    kept = next((one for one in found if before is not None and settings(one.way) == before), best)
    if kept != best and _holds(machine, kept):
        why = [f"{_facts(kept, machine)}; as this run began on this machine"]
        return Choice(kept, machine, "; ".join([*why, *machine.notes]))
    why = [_facts(best, machine)]
    quicker = [one for one in found[: found.index(best)] if one.step < best.step][:NAMED]
    if quicker:
        names = ", ".join(f"{_name(one.way)} ({_too_large(one, machine)})" for one in quicker)
        why.append(f"quicker, but too large: {names}")
    why += _alone(job, machine, best)
    return Choice(best, machine, "; ".join([*why, _attention(job, machine), *machine.notes]))


def said(job: Job, machine: Machine, trainer: TrainerConfig) -> str:
    """The choice in words, for those who only ask; also where nothing fits."""
    try:
        return choose(job, machine, trainer).text
    except InputError as error:
        return f"plan: {error}"


def settings_before(plan: object, machine: Machine, trainer: TrainerConfig) -> list[str] | None:
    """The keys that a run's folder names (`Choice.record`), where it was written on such a machine
    for the same wishes; None where it was not, or cannot be read."""
    if not isinstance(plan, Mapping):
        return None
    same = all(plan.get(key) == value for key, value in _asked(machine, trainer).items())
    found = plan.get("settings")
    return found if same and isinstance(found, list) else None


def _asked(machine: Machine, trainer: TrainerConfig) -> dict[str, Any]:
    """On what a choice depends that may change when a run goes on."""
    wishes = ("strategy", "checkpoint_layers", "offload", "accumulate", "compile", "precision")
    return {
        "machine": machine.words,
        "deepspeed": machine.deepspeed,
        "asked": {key: getattr(trainer, key) for key in wishes},
    }


def open_ways(job: Job, machine: Machine, trainer: TrainerConfig) -> list[Placement]:
    """What `auto` chooses from, quickest first; of equally quick ones the one with the fewest
    parts."""
    found = [placed(job, way, machine.card, BUDGET) for way in _ways(job, machine, trainer)]
    return sorted(found, key=lambda one: one.step)  # the order of equal ones stays


def _ways(job: Job, machine: Machine, trainer: TrainerConfig) -> Iterator[Way]:
    on_gpu = machine.card.device == "cuda"
    for strategy in STRATEGIES if machine.cards > 1 else ("auto",):
        asked = Way(machine.cards, machine.per_node, strategy, accumulate=job.accumulate)
        for way in exact_ways(asked):
            zero = way.strategy.startswith("zero")
            if not (
                (zero and not machine.deepspeed)
                # A CPU's memory is the host's.
                or (way.offload and not on_gpu)
                # ZeRO-3's hooks, which gather weights, do not go into a graph.
                or (trainer.compile and way.strategy == "zero3")
                # Random states, which layers that run again put back, cannot be read in a graph.
                or (trainer.cuda_graph and (way.checkpoint_layers or zero))
                # What a recipe turns on stays on.
                or (trainer.checkpoint_layers and not way.checkpoint_layers)
                or (trainer.offload and not way.offload)
            ):
                yield way


def _holds(machine: Machine, one: Placement) -> bool:
    return one.fits and (machine.host is None or one.host <= USABLE * machine.host)


def _as_asked(job: Job, machine: Machine, trainer: TrainerConfig) -> Choice:
    """A strategy that the recipe names decides; where it does not fit, a line says so."""
    one = placed(job, way_of(trainer), machine.card, BUDGET)
    line = "; ".join([f"as trainer.strategy asks, {_facts(one, machine)}", *machine.notes])
    if _holds(machine, one):
        return Choice(one, machine, line)
    try:
        other = choose(job, machine, replace(trainer, strategy="auto", offload=False)).placement
        advice = f"trainer.strategy=auto takes {_name(other.way)} ({_size(other)})"
    except InputError as error:
        advice = str(error)
    too_large = _too_large(one, machine)
    return Choice(one, machine, line, f"{_name(one.way)} will not fit ({too_large}): {advice}")


# -- what would fit --------------------------------------------------------------------------------


def _nothing_fits(
    job: Job, machine: Machine, trainer: TrainerConfig, found: Sequence[Placement]
) -> str:
    least = min(found, key=lambda one: one.memory)
    needs = f"{_name(least.way)} is the smallest and needs {_too_large(least, machine)}"
    ways_out = list(_ways_out(job, machine, trainer, found))
    what = " or ".join(ways_out) or "a smaller model or trainer.global_batch"
    return f"trainer.strategy=auto: nothing fits {machine.words}: {needs}; what would: {what}"


def _ways_out(
    job: Job, machine: Machine, trainer: TrainerConfig, found: Sequence[Placement]
) -> Iterator[str]:
    """What would make a way fit, each in words, the ones that keep the model first."""

    def fits(job: Job, machine: Machine) -> bool:
        return any(_holds(machine, one) for one in open_ways(job, machine, trainer))

    if not machine.deepspeed and fits(job, replace(machine, deepspeed=True)):
        yield "pip install 'lcm-scale[deepspeed]'"
    on_host = [one.host for one in found if one.fits and not _holds(machine, one)]
    if on_host:
        yield f"{min(on_host) / USABLE / 1e9:.0f} GB of the host's memory (sbatch --mem)"
    if job.state == "fp32" and fits(replace(job, state="bf16"), machine):
        yield "optim.state=bf16"
    if machine.card.device == "cuda":
        larger = next((m for m in _larger(machine) if fits(job, m)), None)
        if larger is not None:
            yield f"{larger.cards} such cards"
    elif machine.cards > 1 and fits(job, _one_process(machine)):
        yield "trainer.devices=1 trainer.nodes=1"
    parts = job.accumulate * 2
    while parts * machine.cards <= job.batch:
        smaller = replace(job, accumulate=parts)
        if fits(smaller, machine):
            one = next(o for o in open_ways(smaller, machine, trainer) if _holds(machine, o))
            yield reason(replace(one, exact=False))
            return
        parts *= 2


def _larger(machine: Machine) -> Iterator[Machine]:
    """The same cards, twice as many and more: on each node first, then on more nodes."""
    nodes, per_node = machine.nodes, machine.per_node
    while 2 * nodes * per_node <= MOST_CARDS:
        if 2 * per_node <= MOST_ON_A_NODE:
            per_node *= 2
        else:
            nodes *= 2
        yield replace(machine, nodes=nodes, per_node=per_node)


def _one_process(machine: Machine) -> Machine:
    """A CPU's whole memory for one process."""
    memory = machine.card.memory * machine.per_node
    return replace(machine, card=replace(machine.card, memory=memory), nodes=1, per_node=1)


# -- in words --------------------------------------------------------------------------------------


def _name(way: Way) -> str:
    plain = "everything" if way.cards == 1 else "ddp"
    parts = [way.strategy if way.strategy.startswith("zero") else plain]
    parts += ["layers again"] * way.checkpoint_layers + ["offload"] * way.offload
    return " + ".join(parts)


def _size(one: Placement) -> str:
    return f"{one.memory / 1e9:.1f} GB"


def _facts(one: Placement, machine: Machine) -> str:
    """A way with what it costs: memory, micro-batch, time, and how much of that is sending."""
    way = one.way
    scans = -(-one.normalised // way.cards)
    each = " each" if way.cards > 1 else ""
    text = f"{_name(way)} on {machine.words}: {_size(one)} and {scans} scans at a time{each}"
    if machine.card.device == "cpu":  # the table's is one core of some CPU
        return text
    text += f", {1e3 * one.step:.0f} ms a step"
    if one.sent:
        link = link_of(machine.card, way)
        between = "a card between nodes" if machine.nodes > 1 else "between cards"
        text += (
            f", {1e3 * one.sent / link:.0f} of them sending (at {link / 1e9:.0f} GB/s {between})"
        )
    return text


def _too_large(one: Placement, machine: Machine) -> str:
    if one.fits:
        return f"{one.host / 1e9:.1f} GB of the host's memory"
    return f"{_size(one)} of {USABLE * machine.card.memory / 1e9:.1f}"


def _alone(job: Job, machine: Machine, best: Placement) -> Iterator[str]:
    """Whether one of the cards would be as quick by itself."""
    if machine.cards == 1 or machine.card.device != "cuda":
        return
    single = replace(machine, nodes=1, per_node=1)
    one = next((o for o in open_ways(job, single, TrainerConfig()) if _holds(single, o)), None)
    if one is not None and one.step <= best.step:
        yield (
            f"one card alone takes {1e3 * one.step:.0f} ms ({_name(one.way)}): folds and seeds "
            "side by side use the others better"
        )


def _attention(job: Job, machine: Machine) -> str:
    """Which cross-attention runs, and by which ratio of costs."""
    model, dtype = job.model, working_dtype(job.precision_on(machine.card))
    device = machine.card.device
    runs = formulation_of(model, model.n_tokens, 1, device, dtype)
    cost = costs(1, model.n_tokens, model.n_regions, model.width, model.heads, device, dtype)
    ratio = cost["absorbed"] / cost["projected"]
    other = ("flash" if device == "cuda" else "projected") if runs == "absorbed" else "absorbed"
    ratio = ratio if runs == "absorbed" else 1 / ratio
    return f"attention {runs}, {ratio:.2g} of {other}'s cost at {model.n_tokens} tokens"
