"""`trainer.strategy=auto`: the quickest way that fits, with its reason, on cards that are not here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lcm_scale import config
from lcm_scale.config import TrainerConfig
from lcm_scale.cost import placement
from lcm_scale.cost.choice import BUDGET, choose, open_ways, settings_before
from lcm_scale.cost.count import Job, cost, job_for, memory
from lcm_scale.cost.doctor import plan
from lcm_scale.cost.placement import STRATEGIES, Placement, Way, placed, settings
from lcm_scale.errors import InputError
from lcm_scale.hardware.cards import CARDS, USABLE
from lcm_scale.hardware.machine import Machine
from lcm_scale.model.presets import PRESETS, LCMConfig

ROOT = Path(__file__).parents[2]
SIZES = [name for name, size in PRESETS.items() if size.width == 2048]
AUTO = TrainerConfig()


def of(key: str, memory: float, nodes: int = 1, per_node: int = 1) -> Machine:
    """Cards with the memory that their drivers give, in hosts of 64 GB."""
    return Machine(replace(CARDS[key], memory=memory), key, nodes, per_node, host=64e9)


# What the page's table shows, and two that must offload.
MACHINES = {
    "1 x 24 GB": of("24GB", 25.4e9),
    "1 x 80 GB": of("A100", 85.0e9),
    "4 x 40 GB": of("A100-40GB", 42.3e9, per_node=4),
    "2 nodes x 4 x 80 GB": of("H100", 85.0e9, 2, 4),
    "2 nodes x 1 x 24 GB": of("24GB", 25.4e9, 2),
    "1 x 12 GB": of("12GB", 12e9),
    "2 x 12 GB": of("12GB", 12e9, per_node=2),
}
IN_THE_TABLE = list(MACHINES)[:5]


def recipe(*overrides: str) -> config.Recipe:
    return config.load(config.Recipe, None, overrides)


def job(size: str, batch: int, *overrides: str) -> Job:
    made = recipe(f"model={size}", f"trainer.global_batch={batch}", *overrides)
    return job_for(made, cost(made).model)


def every_way(asked: Job, machine: Machine) -> Iterator[Placement]:
    """Written down independently of the planner: whatever these cards could do that trains the
    asked model."""
    strategies = ("auto", "zero2") if machine.cards == 1 else STRATEGIES
    for strategy, again, offload in itertools.product(strategies, (False, True), (False, True)):
        if strategy.startswith("zero") if machine.cards > 1 or offload else strategy == "auto":
            pass
        elif offload or machine.cards == 1:
            continue
        way = Way(machine.cards, machine.per_node, strategy, again, offload, asked.accumulate)
        yield placed(asked, way, machine.card, BUDGET)


@pytest.mark.parametrize("batch", [32, 128, 1024])
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("size", SIZES)
def test_what_is_chosen_fits_and_everything_quicker_does_not(
    size: str, machine: Machine, batch: int
) -> None:
    asked = job(size, batch)
    found = list(every_way(asked, machine))
    assert len(found) == (4 if machine.cards == 1 else 14)
    try:
        choice = choose(asked, machine, AUTO)
    except InputError:
        assert not any(one.fits for one in found)
        return
    chosen = choice.placement
    assert chosen.memory <= USABLE * machine.card.memory and chosen.host <= USABLE * 64e9
    assert chosen.exact and chosen.normalised == batch
    quicker = [one for one in found if one.step < chosen.step]
    assert not any(one.fits for one in quicker)
    # The reason names the quickest of them, with what they would take.
    assert ("quicker, but too large" in choice.reason) == bool(quicker)
    if quicker:
        first = min(quicker, key=lambda one: one.step)
        assert f"{first.memory / 1e9:.1f} GB of {USABLE * machine.card.memory / 1e9:.1f}" in (
            choice.reason
        )
    # Of equally quick ones the simplest: DDP before ZeRO, a low stage before a high one.
    alike = [one for one in found if one.step == chosen.step and one.fits]
    assert len(settings(chosen.way)) == min(len(settings(one.way)) for one in alike)


def table(batch: int) -> list[str]:
    """As docs/slurm.md shows it, with the 27 tokens of the seven-set mix."""
    rows = [
        f"| batch {batch:,} | {' | '.join(IN_THE_TABLE)} |",
        "|" + "---|" * (len(IN_THE_TABLE) + 1),
    ]
    for size in SIZES:
        asked = job(size, batch)
        asked = replace(asked, model=replace(asked.model, target_tokens=(27,)))
        cells = [cell(asked, MACHINES[name]) for name in IN_THE_TABLE]
        rows.append(f"| {size} | {' | '.join(cells)} |")
    return rows


def cell(asked: Job, machine: Machine) -> str:
    try:
        found = choose(asked, machine, AUTO).placement
    except InputError:
        return "nothing fits"
    way = found.way
    name = "plain" if way.strategy == "auto" else way.strategy
    again = ", layers again" * way.checkpoint_layers + ", offload" * way.offload
    scans = -(-found.normalised // way.cards)
    return f"{name}{again}: {found.memory / 1e9:.1f} GB, {scans}"


@pytest.mark.parametrize("batch", [32, 1024])
def test_the_tables_of_the_page_are_what_the_planner_says(batch: int) -> None:
    page = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
    assert "\n".join(table(batch)) in page


@pytest.mark.parametrize("pace", [1.25e9, 400e9])
def test_the_tables_do_not_hang_on_how_quick_the_network_is_taken_to_be(
    pace: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All strategies of some cards send as much, but for ZeRO-3 of the largest sizes."""
    usual = [table(batch) for batch in (32, 1024)]
    monkeypatch.setattr(placement, "BETWEEN_NODES", pace)
    assert [table(batch) for batch in (32, 1024)] == usual


def test_time_spent_sending_is_named_and_a_single_card_that_is_as_quick() -> None:
    alone, inside, between = (
        choose(job("1.2b", 32), MACHINES[name], AUTO)
        for name in ("1 x 80 GB", "4 x 40 GB", "2 nodes x 4 x 80 GB")
    )
    assert alone.placement.sent == 0 and "sending" not in alone.reason
    assert "24 of them sending (at 300 GB/s between cards)" in inside.reason
    assert "sending (at 50 GB/s a card between nodes)" in between.reason
    assert "one card alone takes" in inside.reason and "folds and seeds" in inside.reason
    # A batch that one card takes long for is worth the sending.
    assert "alone" not in choose(job("1.2b", 1024), MACHINES["4 x 40 GB"], AUTO).reason


def test_a_strategy_that_a_recipe_names_decides_and_is_warned_of() -> None:
    machine, asked = MACHINES["2 x 12 GB"], job("1b", 32)
    tight = choose(asked, machine, TrainerConfig(strategy="ddp", devices=2))
    assert tight.way.strategy == "ddp" and not tight.placement.fits
    best = choose(asked, machine, AUTO)
    assert tight.warning.startswith("ddp will not fit (18.8 GB of 10.8)")
    assert f"trainer.strategy=auto takes {best.way.strategy} + offload" in tight.warning
    roomy = choose(asked, MACHINES["4 x 40 GB"], TrainerConfig(strategy="zero3", devices=4))
    assert roomy.way.strategy == "zero3" and not roomy.warning


def test_where_nothing_fits_one_line_says_what_would_and_it_does() -> None:
    machine = MACHINES["1 x 12 GB"]
    with pytest.raises(InputError) as caught:
        choose(job("1b", 1024), machine, AUTO)
    line = str(caught.value)
    assert "\n" not in line
    assert "nothing fits 12GB (12 GB): zero2 + layers again + offload is the smallest" in line
    assert "2 such cards or trainer.accumulate=2 takes batch norm's statistics from 512" in line
    assert choose(job("1b", 1024), replace(machine, per_node=2), AUTO).placement.fits
    assert choose(job("1b", 1024, "trainer.accumulate=2"), machine, AUTO).placement.fits
    huge = job("1.2b", 32, "model.layers=4000")
    with pytest.raises(InputError, match=r"what would: a smaller model or trainer\.global_batch"):
        choose(huge, machine, AUTO)


def test_zero_is_taken_only_where_it_can_run() -> None:
    without = replace(MACHINES["1 x 12 GB"], deepspeed=False)
    with pytest.raises(InputError, match=r"what would: pip install 'lcm-scale\[deepspeed\]'"):
        choose(job("1b", 32), without, AUTO)
    # Its third stage's hooks do not go into a compiled graph.
    ways = open_ways(job("1b", 32), MACHINES["4 x 40 GB"], TrainerConfig(compile=True))
    assert "zero2" in {w.way.strategy for w in ways} and "zero3" not in {
        w.way.strategy for w in ways
    }


def test_a_recorded_step_is_one_of_a_plain_process() -> None:
    tight = MACHINES["1 x 12 GB"]
    ways = open_ways(job("1b", 32), tight, TrainerConfig(cuda_graph=True))
    assert [(w.way.strategy, w.way.checkpoint_layers) for w in ways] == [("auto", False)]


def test_what_a_recipe_turns_on_stays_on() -> None:
    machine, small = MACHINES["1 x 80 GB"], job("147m", 32)
    assert choose(small, machine, TrainerConfig(checkpoint_layers=True)).way.checkpoint_layers
    assert choose(small, machine, TrainerConfig(offload=True)).way.strategy == "zero2"


def test_offload_needs_the_hosts_memory_too() -> None:
    machine = replace(MACHINES["1 x 12 GB"], host=16e9)
    with pytest.raises(InputError, match=r"what would: 18 GB of the host's memory \(sbatch --mem"):
        choose(job("1b", 32), machine, AUTO)
    assert choose(job("1b", 32), replace(machine, host=18.4e9), AUTO).way.offload


def test_the_attention_that_runs_is_named_with_the_ratio_of_costs() -> None:
    def said(tokens: int, machine: str = "1 x 80 GB", attention: str = "auto") -> str:
        model = LCMConfig(116, (tokens,), layers=4, attention=attention)
        return choose(Job(model, 32, 1), MACHINES[machine], AUTO).reason

    assert said(27).endswith("attention absorbed, 0.55 of flash's cost at 27 tokens")
    assert said(100).endswith("attention flash, 0.66 of absorbed's cost at 100 tokens")
    assert "attention flash, 1.8 of absorbed's" in said(27, attention="flash")


def test_memory_is_counted_for_the_attention_that_runs_on_the_card() -> None:
    """Between the two devices' crossings a CPU absorbs and a GPU does not."""
    model = LCMConfig(116, (70,), layers=12)
    cpu, gpu = (memory(model, "32-true", 8, device=device) for device in ("cpu", "cuda"))
    forced = memory(replace(model, attention="flash"), "32-true", 8)
    assert cpu.total != gpu.total == forced.total
    assert placed(Job(model, 8, 1, precision="32-true"), Way(), CARDS["A100"], BUDGET).memory == (
        gpu.total
    )


def test_a_cpu_is_one_process_or_ddp_unless_its_memory_says_otherwise() -> None:
    def cpu(memory: float, processes: int) -> Machine:
        card = replace(CARDS["cpu"], memory=memory / processes)
        return Machine(card, "CPU", per_node=processes, host=memory)

    asked = job("147m", 32)
    assert choose(asked, cpu(64e9, 1), AUTO).is_usual
    assert choose(asked, cpu(64e9, 2), AUTO).way == Way(2, 2, "ddp")
    small = choose(asked, cpu(5.4e9, 2), AUTO)
    assert small.way.strategy == "zero2" and "quicker" not in small.reason
    with pytest.raises(InputError, match=r"what would: trainer.devices=1 trainer.nodes=1"):
        choose(asked, cpu(4e9, 2), AUTO)


def test_a_way_is_kept_on_the_same_machine_for_the_same_wishes_alone() -> None:
    machine, asked = MACHINES["4 x 40 GB"], job("1b", 32)
    written = choose(asked, machine, AUTO).record(AUTO)
    assert settings_before(written, machine, AUTO) == ["trainer.strategy=ddp"]
    # As another version of the planner may have chosen.
    other = written | {"settings": ["trainer.strategy=zero2"]}
    kept = choose(asked, machine, AUTO, settings_before(other, machine, AUTO))
    assert kept.way.strategy == "zero2" and "as this run began on this machine" in kept.reason
    for elsewhere, wishes in (
        (MACHINES["1 x 80 GB"], AUTO),
        (machine, TrainerConfig(compile=True)),
        (replace(machine, deepspeed=False), AUTO),
    ):
        assert settings_before(other, elsewhere, wishes) is None
    for damaged in (None, [], {"settings": 3}, other | {"settings": "zero2"}):
        assert settings_before(damaged, machine, AUTO) is None
    nonsense = choose(asked, machine, AUTO, ["trainer.strategy=zero9"])
    assert nonsense.way.strategy == "ddp"


def test_doctor_gives_the_planners_answer() -> None:
    made = recipe("model=1.2b", "data.scans=10000", "trainer.global_batch=4096")
    found = plan(made, MACHINES["1 x 80 GB"])
    best = choose(job("1.2b", 4096), MACHINES["1 x 80 GB"], AUTO)
    assert (found.state, found.seen) == ("ok", best.reason) and best.way.checkpoint_layers
    asked = recipe("model=1b", "trainer.strategy=ddp", "trainer.devices=2")
    tight = plan(asked, MACHINES["2 x 12 GB"])
    assert tight.state == "warn" and "trainer.strategy=auto takes" in tight.advice
    with pytest.raises(InputError, match="nothing fits"):
        plan(recipe("model=1.2b", "model.layers=4000"), MACHINES["1 x 12 GB"])
