"""What a plan counts, leaves out and foresees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lcm_scale.config import BudgetConfig
from lcm_scale.cost.placement import Way, published_costs
from lcm_scale.errors import InputError
from lcm_scale.hardware.cards import CARDS
from lcm_scale.laws.identify import identify
from lcm_scale.model.flops import formulation_of, once_flops, training_flops
from lcm_scale.model.presets import LCMConfig
from lcm_scale.sweep.plan import Plan, plan
from lcm_scale.sweep.points import open_sweep

Make = Callable[..., Plan]
DESIGN = """
recipe: run
baselines: []
axes:
  {size: [48x2, 96x2, 128x4, 256x4, 512x8], subjects: [100, 400, 1600], epochs: [10], seed: [0, 1]}
"""


def without_shards(tmp_path: Path, text: str = DESIGN, *overrides: str) -> Plan:
    (tmp_path / "run.yaml").write_text("name: run\ndata: {sets: [nowhere]}\n")
    (tmp_path / "sweep_x.yaml").write_text(text)
    return plan(open_sweep(tmp_path / "sweep_x.yaml", overrides))


def test_a_plan_needs_no_shards(tmp_path: Path) -> None:
    made = without_shards(tmp_path)
    assert len(made.points) == 30
    assert "no shards here" in made.counted


def test_where_there_are_shards_their_tokens_and_people_count(make_sweep: Make) -> None:
    assert make_sweep().counted.startswith("first: 4 tokens, about 22 training people")


def test_flops_are_those_of_the_formulation_that_runs(tmp_path: Path) -> None:
    made = without_shards(tmp_path)
    first = made.points[0]
    model = LCMConfig(n_regions=116, target_tokens=(4, 2, 1), width=48, layers=2, heads=4, ffn=48)
    formulation = formulation_of(model, 7, first.people, "cuda", torch.bfloat16)
    there = {"device": "cuda", "dtype": torch.bfloat16}
    assert first.flops == 10 * (
        first.people * training_flops(model, formulation, **there) + once_flops(model, **there)
    )


def test_money_is_hours_times_the_price(tmp_path: Path) -> None:
    made = without_shards(tmp_path, DESIGN, "budget.price=2.5")
    assert made.money == pytest.approx(2.5 * made.hours)


def test_no_step_is_faster_than_the_kernels_of_a_small_model_start(tmp_path: Path) -> None:
    made = without_shards(tmp_path, DESIGN, "budget.step_ms=100", "budget.start_seconds=0")
    assert made.points[0].hours == pytest.approx(made.points[0].steps * 0.1 / 3600)


@pytest.mark.parametrize("limit", ["budget.gpu_hours", "budget.money"])
def test_the_dearest_points_are_left_out_until_the_rest_fits(limit: str, tmp_path: Path) -> None:
    whole = without_shards(tmp_path)
    half = whole.hours / 2 * (3 if limit == "budget.money" else 1)
    made = without_shards(tmp_path, DESIGN, f"{limit}={half}")
    assert made.hours <= whole.hours / 2
    assert {name for name, _ in made.left_out} == {p.point.name for p in whole.points} - {
        p.point.name for p in made.points
    }
    dearest_kept = max(p.hours for p in made.points)
    assert all(
        p.hours >= dearest_kept
        for p in whole.points
        if p.point.name in {name for name, _ in made.left_out}
    )


def test_a_budget_for_nothing_says_what_the_cheapest_costs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no point fits the budget: the cheapest costs"):
        without_shards(tmp_path, DESIGN, "budget.gpu_hours=0")


def test_an_unknown_card_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'H100'"):
        without_shards(tmp_path, DESIGN, "budget.gpu=H1000")


def test_more_people_and_sizes_identify_what_fewer_do_not(tmp_path: Path) -> None:
    wide = {i.name: i for i in identify(without_shards(tmp_path))}
    narrow = {
        i.name: i
        for i in identify(
            without_shards(tmp_path, DESIGN, "axes.subjects=[100,130,160]", "axes.seed=[0]")
        )
    }
    assert wide["E"].known
    assert not narrow["B"].known
    assert narrow["E"].high - narrow["E"].low > 2 * (wide["E"].high - wide["E"].low)


def test_a_design_that_cannot_be_fitted_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 different values of parameters"):
        identify(without_shards(tmp_path, DESIGN, "axes.size=[48x2,96x2]"))


def test_one_card_is_enough_for_every_published_size() -> None:
    rows = published_costs(10_000, 200, 128, 25, BudgetConfig())
    assert len(rows) == 8 * 3
    assert all(row.placement.fits and row.placement.way == Way() for row in rows)


def test_the_largest_size_takes_the_time_that_planning_measured() -> None:
    # docs/model.md, Arithmetic: 19 minutes on an H100, 56 on an A100, at 40 % MFU, optimiser and
    # recomputing aside.
    rows = {
        r.card: r.placement
        for r in published_costs(10_000, 200, 128, 25, BudgetConfig())
        if r.size == "1.2b"
    }
    assert 19 / 60 < rows["H100"].hours < 2 * 19 / 60
    assert 56 / 60 < rows["A100"].hours < 2 * 56 / 60
    assert set(rows) == {"A100", "H100", "H200"} <= set(CARDS)


def test_a_point_that_its_card_cannot_hold_says_what_would_make_it_fit(tmp_path: Path) -> None:
    def made(*settings: str) -> Plan:
        design = DESIGN + f"overrides: [{', '.join(('trainer.global_batch=4096', *settings))}]\n"
        axes = "axes={size: [1.2b], subjects: [8000], epochs: [10], seed: [0]}"
        return without_shards(tmp_path, design, axes, "budget.gpu=A100")

    large, repeated = made("trainer.strategy=ddp"), made("trainer.checkpoint_layers=true")
    (warning,) = large.warnings
    assert warning.startswith("does not fit A100: ")
    assert warning.endswith("GB a card: trainer.checkpoint_layers=true")
    # Where the recipe leaves it open, its run takes that by itself.
    assert made().points[0].placement == repeated.points[0].placement
    assert repeated.warnings == ()
    assert repeated.points[0].hours > large.points[0].hours
    assert repeated.points[0].flops > large.points[0].flops
