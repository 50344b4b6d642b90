"""`lcm-scale cost` and `lcm-scale sweep cost` print the planner's answer."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.cli import main
from lcm_scale.config import BudgetConfig, Recipe, load
from lcm_scale.cost.placement import published_costs
from lcm_scale.hardware.cards import CARDS, Card

Call = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def lcm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`lcm("cost model=1b")` -> (exit code, stdout, stderr), in this process."""

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lcm-scale", *shlex.split(line)])
        code: object = 0
        try:
            main()
        except SystemExit as caught:
            code = caught.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return call


def test_both_commands_print_the_same_way_for_the_largest_model_and_batch(
    lcm: Call, tmp_path: Path
) -> None:
    """They once gave accumulate=16 and checkpoint_layers."""
    run = "trainer.global_batch=4096 data.scans=10000 trainer.max_epochs=200"
    code, out, _ = lcm(f"cost model=1.2b gpu=A100 {run} --write {tmp_path}/planned.yaml")
    assert code == 0
    advice = out.splitlines()[-1]
    assert advice.startswith("Recommended: one GPU (A100, trainer.checkpoint_layers=true)")
    code, table, _ = lcm("sweep cost --scans 10000 --epochs 200 --batch 4096 --tokens 7")
    row, how = (line for line in table.splitlines() if "1.2b" in line)
    best = published_costs(10_000, 200, 4096, 7, BudgetConfig(), ["A100"])[-1].placement
    assert code == 0
    assert how.startswith("1.2b: A100, H100 one card trainer.checkpoint_layers=true")
    assert "accumulate" not in table and "trainer.strategy" not in how
    assert f"{best.memory / 1e9:.1f}" in row and f"{best.memory / 1e9:.1f} GB" in advice
    assert f"{best.hours:.2f}" in row and f"{best.hours:.2g} hours" in advice


def test_the_recipe_that_cost_writes_holds_its_micro_batches(lcm: Call, tmp_path: Path) -> None:
    run = "model=441m trainer.global_batch=4096 data.scans=10000"
    code, out, _ = lcm(f"cost gpu=12GB {run} --write {tmp_path}/planned.yaml")
    assert code == 0
    written = load(Recipe, tmp_path / "planned.yaml").trainer
    assert written.accumulate > 1 and written.global_batch == 4096
    *_, reason, advice = out.splitlines()
    assert f"trainer.accumulate={written.accumulate}" in advice
    assert f"statistics from {4096 // written.accumulate} scans" in reason
    code, out, _ = lcm(f"cost {tmp_path}/planned.yaml")
    assert code == 0 and f"{4096 // written.accumulate} scans on it at a time" in out


def test_a_narrow_model_on_a_cpu_with_bf16_is_counted_in_fp32(
    lcm: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card(2e11, 1e11, 64e9, 1e10, "cpu", "bf16-mixed", measured=True)
    monkeypatch.setitem(CARDS, "cpu", card)
    words = f"data.scans=100 gpu=cpu --write {tmp_path}/planned.yaml"
    for model, precision in (("small", "32-true"), ("147m", "bf16-mixed")):
        code, out, _ = lcm(f"cost model={model} {words}")
        assert code == 0 and f"1 x 1 cpu, {precision}," in out


def test_people_memory_is_counted_before_it_is_fitted(lcm: Call) -> None:
    words = "cost model=tiny model.people_memory=linear"
    code, few, _ = lcm(f"{words} data.scans=4000")
    assert code == 0 and "people memory: 4,000 scans are compared with each other" in few
    code, many, _ = lcm(f"{words} data.scans=10000")
    assert code == 0 and "people memory: 10,000 scans are compared with 2,000 landmarks" in many
    assert "people memory" not in lcm("cost model=tiny data.scans=4000")[1]
