"""How a run comes up on cards that are not here: the planner's answer reaches Lightning, the folder
and whoever starts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lcm_scale import config
from lcm_scale.config import Recipe
from lcm_scale.cost.choice import open_ways
from lcm_scale.cost.count import job_for
from lcm_scale.errors import InputError
from lcm_scale.hardware import machine
from lcm_scale.hardware.cards import USABLE
from lcm_scale.hardware.machine import Device
from lcm_scale.training import fit as run
from lcm_scale.training import prepare as preparing
from lcm_scale.training.folder import fact_of, write_head
from lcm_scale.training.parallel.strategy import trainer_arguments
from lcm_scale.training.prepare import PreparedRun, prepare
from lcm_scale.training.together import Together

ROOT = Path(__file__).parents[2]
Make = Callable[..., Recipe]
Cards = Callable[..., None]


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    """`cards("NVIDIA GeForce RTX 4090", 25.4e9, nodes=2)`: what torch sees here, and what the other
    nodes' ranks tell."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def pretend(name: str, memory: float, per_node: int = 1, nodes: int = 1) -> None:
        seen = SimpleNamespace(total_memory=memory)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: per_node)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: name)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: seen)
        monkeypatch.setattr(machine, "host_memory", lambda: 64e9)
        if nodes > 1:

            def everybodys(own: str, ranks: int) -> list[Device]:
                assert ranks == nodes * per_node
                device = machine._device("gpu", 0, per_node)
                return [device] * ranks

            monkeypatch.setattr(machine, "_told_by_address", lambda: True)
            monkeypatch.setattr(machine, "_everybodys", everybodys)

    return pretend


def shipped(world: Path, folder: Path, *overrides: str) -> Recipe:
    """recipes/pretrain_1b.yaml on the small simulated sets; what it says of trainer stays."""
    words = ("data=first", f"data.shards_dir={world}/shards", f"runs_dir={folder}/runs", "name=big")
    return config.load(Recipe, ROOT / "recipes" / "pretrain_1b.yaml", [*words, *overrides])


def lightnings(prepared: PreparedRun) -> dict[str, Any]:
    return trainer_arguments(prepared.trainer, prepared.hardware, Together(), 1)


@pytest.mark.parametrize(
    ("size", "card", "memory", "per_node", "nodes", "strategy", "again"),
    [
        ("1b", "NVIDIA GeForce RTX 4090", 25.4e9, 1, 1, "auto", False),
        ("1b", "NVIDIA A100-SXM4-80GB", 85.0e9, 1, 1, "auto", False),
        ("1b", "NVIDIA A100-SXM4-40GB", 42.3e9, 4, 1, "ddp", False),
        ("1b", "NVIDIA H100 80GB HBM3", 85.0e9, 4, 2, "ddp", False),
        ("1b", "NVIDIA GeForce RTX 4090", 25.4e9, 1, 2, "ddp", False),
        ("1b", "NVIDIA GeForce RTX 4070", 16e9, 4, 1, "zero1", False),
        ("1.2b", "NVIDIA GeForce RTX 4090", 24e9, 1, 1, "auto", True),
    ],
)
def test_the_shipped_recipe_comes_up_right_without_a_word(
    size: str,
    card: str,
    memory: float,
    per_node: int,
    nodes: int,
    strategy: str,
    again: bool,
    cards: Cards,
    world: Path,
    tmp_path: Path,
) -> None:
    """As slurm/pretrain_1b.sh starts it: with the job's nodes and tasks, and no strategy."""
    cards(card, memory, per_node, nodes)
    where = (f"trainer.nodes={nodes}", f"trainer.devices={per_node}", f"model={size}")
    recipe = shipped(world, tmp_path, *where)
    assert recipe.trainer.strategy == "auto"
    prepared = prepare(recipe)
    assert (prepared.trainer.strategy, prepared.trainer.checkpoint_layers) == (strategy, again)
    assert prepared.hardware.precision == "bf16-mixed"
    assert prepared.choice.placement.fits and card in prepared.choice.text
    # The recipe in the folder is what was asked, so that it may go on elsewhere.
    assert prepared.recipe.trainer.strategy == "auto"
    if per_node * nodes > 1:
        made = lightnings(prepared)["strategy"]
        assert type(made).__name__ == ("DDPStrategy" if strategy == "ddp" else "ZeroStrategy")


def test_a_dry_run_prints_the_plan_and_where_nothing_fits_ends_with_one_line(
    cards: Cards, world: Path, tmp_path: Path, lcm: Callable[[str], tuple[int, str, str]]
) -> None:
    where = f"data=first data.shards_dir={world}/shards runs_dir={tmp_path}/runs name=big"
    line = f"pretrain {ROOT}/recipes/pretrain_1b.yaml --dry-run {where}"
    cards("NVIDIA A100-SXM4-40GB", 42.3e9, 4)
    code, out, _ = lcm(f"{line} trainer.devices=4")
    (plan,) = [each for each in out.splitlines() if each.startswith("plan: ")]
    assert code == 0 and plan.startswith("plan: ddp on 4 x NVIDIA A100-SXM4-40GB (42 GB): ")
    assert "strategy: auto" in out
    # The same from `cost`, which finds the same cards.
    code, out, _ = lcm(f"cost {ROOT}/recipes/pretrain_1b.yaml {where} trainer.devices=4")
    assert code == 0 and plan in out
    cards("NVIDIA GeForce RTX 4070", 6e9)
    code, out, err = lcm(line)
    assert code == 2 and out == ""
    assert err.startswith(
        "error: trainer.strategy=auto: nothing fits NVIDIA GeForce RTX 4070 (6 GB)"
    )
    assert "; what would: " in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
    code, out, _ = lcm(f"{line} trainer.strategy=ddp")
    assert code == 0
    assert "\nwarning: everything will not fit" in out and "nothing fits" in out


def test_the_plan_stays_with_the_run_and_another_machine_makes_another(
    cards: Cards, world: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "big"
    cards("NVIDIA A100-SXM4-40GB", 42.3e9, 4)
    four = shipped(world, tmp_path, "trainer.devices=4")
    first = prepare(four)
    write_head(four, folder, plan=first.choice.record(four.trainer))
    assert fact_of(folder, "plan")["settings"] == ["trainer.strategy=ddp"]
    assert prepare(four).choice == first.choice
    # What another version of the planner had chosen is kept,
    file = folder / "provenance.json"
    facts = json.loads(file.read_text())
    facts["plan"]["settings"] = ["trainer.strategy=zero1"]
    file.write_text(json.dumps(facts))
    kept = prepare(four)
    assert kept.trainer.strategy == "zero1" and "as this run began" in kept.choice.text
    # but not on other cards, where checkpoints of any strategy go on,
    cards("NVIDIA GeForce RTX 4070", 16e9, 4)
    again = prepare(four)
    assert again.trainer.strategy == "zero1" and "as this run began" not in again.choice.text
    one = prepare(shipped(world, tmp_path))
    assert one.trainer.strategy == "zero2" and one.trainer.offload
    # nor where something else is wished for.
    cards("NVIDIA A100-SXM4-40GB", 42.3e9, 4)
    again = prepare(shipped(world, tmp_path, "trainer.devices=4", "trainer.checkpoint_layers=true"))
    assert again.trainer.strategy == "ddp" and again.trainer.checkpoint_layers


def test_a_small_memory_runs_layers_again_and_learns_the_same(
    recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real run, whose plan is not the usual one."""
    wide = ("model.width=64", "trainer.max_steps=2", "model.dropout=0.0")
    plain = prepare(recipe(*wide, "name=plain"))
    real = preparing.machine_here
    job, here = job_for(plain.recipe, plain.opened.model), real(plain.recipe.trainer)
    whole, again = sorted(open_ways(job, here, plain.recipe.trainer), key=lambda one: -one.memory)
    needs = (whole.memory + again.memory) / 2 / USABLE
    folder = run.fit(plain).folder
    assert fact_of(folder, "plan")["settings"] == [] and plain.choice.is_usual

    def small(*asked: Any) -> Any:
        found = real(*asked)
        return replace(found, card=replace(found.card, memory=needs))

    monkeypatch.setattr(preparing, "machine_here", small)
    tight = prepare(recipe(*wide, "name=tight"))
    assert tight.trainer.checkpoint_layers and not tight.recipe.trainer.checkpoint_layers
    assert not tight.choice.is_usual
    rerun = run.fit(tight).folder
    assert fact_of(rerun, "plan")["settings"] == ["trainer.checkpoint_layers=true"]
    losses = [
        [json.loads(line)["loss"] for line in (f / "log.jsonl").open() if '"step"' in line[:20]]
        for f in (folder, rerun)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 2


def test_offload_is_left_to_the_planner_on_gpus_alone(
    cards: Cards, recipe: Make, world: Path, tmp_path: Path
) -> None:
    cards("NVIDIA A100-SXM4-80GB", 85e9)
    asked = prepare(shipped(world, tmp_path, "trainer.offload=true"))
    assert (asked.trainer.strategy, asked.trainer.offload) == ("zero2", True)
    with pytest.raises(InputError, match=r"needs trainer\.strategy=zero1"):
        prepare(recipe("trainer.offload=true", "trainer.accelerator=cpu"))
