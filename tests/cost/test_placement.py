"""The planner: which way to run it takes, what it counts for it, and that every command that
recommends one gives its answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lcm_scale import config
from lcm_scale.config import BudgetConfig
from lcm_scale.cost.count import Job, cost, job_of, memory
from lcm_scale.cost.placement import (
    STRATEGIES,
    ZERO_GATHERED,
    Placement,
    Way,
    card_bytes,
    placed,
    placements,
    published_costs,
    recipe_for,
    recommended,
    sent_bytes,
    way_of,
)
from lcm_scale.data.order import BatchPlan
from lcm_scale.errors import InputError
from lcm_scale.hardware import cards
from lcm_scale.hardware.cards import CARDS, Card, card_of
from lcm_scale.model.flops import parameter_count
from lcm_scale.model.presets import PRESETS, LCMConfig

PUBLISHED = [name for name, size in PRESETS.items() if size.width == 2048]


def recipe(*overrides: str) -> config.Recipe:
    return config.load(config.Recipe, None, overrides)


def planned(
    made: config.Recipe, nodes: int, per_node: int, budget: BudgetConfig
) -> list[Placement]:
    return placements(job_of(made, cost(made)), card_of(budget.gpu), nodes, per_node, budget)


def test_one_card_is_recommended_where_it_is_the_cheapest() -> None:
    ways = planned(recipe("model=1.2b", "data.scans=10000"), 8, 8, BudgetConfig())
    assert ways[0].way.cards == 1 and ways[0].fits
    assert recommended(ways, "H100", 64, BudgetConfig())[-1].startswith(
        "Recommended: one GPU (H100"
    )
    assert "64 such runs" in recommended(ways, "H100", 64, BudgetConfig())[0]


def test_what_one_small_card_cannot_hold_is_offloaded_or_spread() -> None:
    budget = BudgetConfig(gpu="24GB")
    made = recipe("model=1.2b", "data.scans=10000", "trainer.global_batch=128")
    ways = planned(made, 1, 4, budget)
    best = ways[0].way
    assert (best.cards, best.strategy, best.offload) == (1, "zero2", True)
    ddp, zero1 = (next(w for w in ways if w.way.strategy == name) for name in ("ddp", "zero1"))
    assert ddp.way.checkpoint_layers and not zero1.way.checkpoint_layers
    assert ddp.fits and zero1.fits
    written = recipe_for(made, best)
    assert (written.trainer.strategy, written.trainer.devices, written.trainer.offload) == (
        "zero2",
        1,
        True,
    )
    assert written.name == "1.2b"
    none_fits = planned(recipe("model=1.2b", "model.layers=400", "data.scans=10"), 1, 1, budget)
    with pytest.raises(InputError, match="no strategy fits"):
        recommended(none_fits, "24GB", 1, budget)


def test_zero_stages_hold_less_and_beyond_what_stays_gathered_the_third_sends_more() -> None:
    config = LCMConfig(116, (7,), layers=32)
    kept, parameters = memory(config, "32-true", 1), parameter_count(config)
    held = [card_bytes(kept, parameters, s, 16) for s in ("ddp", "zero1", "zero2")]
    assert held == sorted(held, reverse=True)
    assert card_bytes(kept, parameters, "zero2", 16, offload=True) < held[2]
    assert [sent_bytes(s, 100, 4) for s in STRATEGIES] == [600, 600, 600, 600]
    assert sent_bytes("zero3", 2 * ZERO_GATHERED, 4) == 5 / 4 * sent_bytes(
        "zero2", 2 * ZERO_GATHERED, 4
    )


def test_the_largest_model_trains_on_24_gb_and_finetunes_its_tokens_on_12() -> None:
    asked = ("model=1.2b", "data.scans=1000", "trainer.global_batch=32")
    small, smaller = BudgetConfig(gpu="24GB"), BudgetConfig(gpu="12GB")
    plain = planned(recipe(*asked, "optim.state=bf16"), 1, 1, small)[0]
    assert plain.fits and plain.way == Way()
    fp32 = planned(recipe(*asked), 1, 1, small)[0]
    assert fp32.fits and fp32.way.checkpoint_layers and fp32.step > plain.step
    tokens = planned(recipe(*asked, "optim.trainable=tokens"), 1, 1, smaller)[0]
    assert tokens.fits and tokens.way == Way()
    assert 2 * tokens.step < planned(recipe(*asked), 1, 1, smaller)[0].step


def test_a_cpu_trains_in_fp32_and_this_machine_at_the_pace_that_was_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = recipe("model=147m", "data.scans=100")
    assert planned(made, 1, 1, BudgetConfig(gpu="cpu"))[0].memory == cost(made).memory[0].total
    card = Card(
        2e11, 1e11, memory=64e9, link=1e10, device="cpu", precision="32-true", measured=True
    )
    monkeypatch.setattr(cards, "probe", lambda: card)
    counted = cost(made)
    flops = counted.step_flops[counted.formulation]
    assert planned(made, 1, 1, BudgetConfig(gpu="yours", mfu=0.1))[0].step == pytest.approx(
        flops / 2e11, rel=0.1
    )


def test_a_cpu_with_bf16_trains_wide_models_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cards, "probe", lambda: Card(2e11, 1e11, 64e9, 1e10, "cpu", "bf16-mixed", measured=True)
    )
    for overrides, row in (("model=147m",), 1), (("model=small",), 0):
        made = recipe(*overrides, "data.scans=100")
        assert (
            planned(made, 1, 1, BudgetConfig(gpu="yours"))[0].memory == cost(made).memory[row].total
        )


def test_a_plan_without_data_says_what_it_needs() -> None:
    with pytest.raises(InputError, match=r"data\.scans=10000"):
        planned(recipe("model=1.2b"), 1, 1, BudgetConfig())


def test_every_published_size_card_and_batch_gets_one_answer_from_both_commands() -> None:
    names, batches = ("A100", "H100", "H200", "24GB"), (32, 128, 1024, 4096)
    for batch in batches:
        rows = published_costs(10_000, 200, batch, 7, BudgetConfig(), names)
        assert [(r.size, r.card) for r in rows] == [(s, c) for s in PUBLISHED for c in names]
        for row in rows:
            asked = recipe(
                f"model={row.size}",
                "data.scans=10000",
                "trainer.max_epochs=200",
                f"trainer.global_batch={batch}",
            )
            best = planned(asked, 1, 1, BudgetConfig(gpu=row.card))[0]
            assert row.placement == best, (row.size, row.card, batch)
            assert best.fits and best.normalised >= 32


def test_what_trains_the_asked_model_goes_before_what_is_cheaper() -> None:
    made = recipe("model=1.2b", "data.scans=10000", "trainer.global_batch=4096")
    first, second = planned(made, 1, 1, BudgetConfig(gpu="A100"))
    assert first.exact and first.way == Way(checkpoint_layers=True)
    assert not second.exact and second.way.accumulate > 1 and not second.way.checkpoint_layers
    assert second.card_hours < first.card_hours < 4 / 3 * second.card_hours
    note = recommended([first, second], "A100", 1, BudgetConfig())[0]
    assert note.startswith("cheaper, at") and "another model fit" in note


def test_micro_batches_are_the_last_resort_and_the_reason_and_the_recipe_say_so() -> None:
    budget = BudgetConfig(gpu="12GB")
    asked = ("model=441m", "data.scans=10000", "trainer.global_batch=4096")
    made = recipe(*asked)
    best = planned(made, 1, 1, budget)[0]
    assert best.fits and not best.exact and best.way.accumulate > 1
    assert best.normalised == 4096 // best.way.accumulate
    lines = recommended([best], "12GB", 1, budget)
    assert f"batch norm's statistics from {best.normalised} scans" in lines[-2]
    assert f"trainer.accumulate={best.way.accumulate}" in lines[-1]
    written = recipe_for(made, best.way)
    assert written.trainer.accumulate == best.way.accumulate
    assert way_of(written.trainer) == best.way
    # The batch stays what the recipe asks for; a device holds one micro-batch of it.
    assert written.trainer.global_batch == 4096
    plan = BatchPlan(10_000, 4096, best.way.cards, best.way.accumulate)
    assert cost(written).device_batch == plan.local_batch == best.normalised
    # More cards leave batch norm its whole step, so they go first.
    several = planned(made, 1, 16, budget)[0]
    assert several.exact and several.way.cards == 16


def test_micro_batches_that_a_recipe_asks_for_are_its_model() -> None:
    made = recipe(
        "model=1.2b", "data.scans=10000", "trainer.global_batch=4096", "trainer.accumulate=16"
    )
    best = planned(made, 1, 1, BudgetConfig(gpu="A100"))[0]
    assert best.exact and best.way == Way(accumulate=16) and best.normalised == 256


def test_layers_that_run_again_cost_their_forward_pass_and_micro_batches_no_flop() -> None:
    job = Job(LCMConfig(116, (7,), layers=32), 4096, steps=1)
    card, budget = replace(CARDS["A100"], bandwidth=1e30), BudgetConfig(step_ms=0)
    plain, recomputed, micro = (
        placed(job, way, card, budget).step
        for way in (Way(), Way(checkpoint_layers=True), Way(accumulate=16))
    )
    # A forward pass more beside three of them and what the absorbed products make anew.
    assert 1.2 < recomputed / plain < 4 / 3
    assert micro / plain == pytest.approx(1, abs=0.001)
    # Where kernels' starts are what takes time, each micro-batch starts them.
    tiny, waiting = Job(LCMConfig(116, (7,), width=64, layers=2), 32, 1), BudgetConfig(step_ms=15)
    assert placed(tiny, Way(accumulate=4), card, waiting).step == pytest.approx(0.06)


def test_micro_batches_keep_earlier_gradients_and_zero_reduces_each() -> None:
    kept = memory(LCMConfig(116, (7,), layers=4), "32-true", 64)
    parameters = kept.weights // 4
    once, several = (card_bytes(kept, parameters, "zero1", 4, accumulate=n) for n in (1, 2))
    assert several > once
    assert [sent_bytes(s, 100, 4, accumulate=2) for s in STRATEGIES] == [600, 600, 900, 1200]


def test_a_precision_that_a_recipe_asks_for_is_counted_and_costs_its_own_pace() -> None:
    asked = ("model=147m", "data.scans=1000")
    half = planned(recipe(*asked), 1, 1, BudgetConfig(step_ms=0))[0]
    full = planned(recipe(*asked, "trainer.precision=32-true"), 1, 1, BudgetConfig(step_ms=0))[0]
    assert [half.memory, full.memory] == [m.total for m in reversed(cost(recipe(*asked)).memory)]
    assert full.step > 3 * half.step
