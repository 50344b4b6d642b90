"""What a GPU would be given in a training step, seen without one: no wait of the host but the one
that a step ends with, as many launches in each step, the same shapes in each batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("fake_run.py")
STAGES = (
    "phases=[{name: a, epochs: 1, stage: momentum, readout: adaptive},"
    " {name: b, epochs: 2, readout: adaptive}]"
)
ONE = "phases=[{name: b, epochs: 1, readout: adaptive}]"
FINETUNE = "phases=[{name: a, epochs: 1, readout: adaptive, pseudo_labels: true}]"
RUNS: dict[str, tuple[str, ...]] = {
    "absorbed": ("model.attention=absorbed", STAGES),
    "projected": ("model.attention=projected", ONE),
    "flash": ("model.attention=flash", ONE),
    "larger batch": ("model.attention=absorbed", ONE, "trainer.global_batch=24"),
    "fewer targets": ("model.attention=absorbed", ONE, "data.targets=[diagnosis, sex]"),
    "fp32": ("model.attention=absorbed", ONE, "trainer.precision=32-true"),
    "rate by number": ("model.attention=absorbed", ONE, "rate by number"),
    "finetune": (
        *("model.attention=absorbed", FINETUNE, "optim.state=bf16", "model.mask_constant=true"),
        *("model.edge_branch=true", "trainer.checkpoint_layers=true"),
    ),
}


@pytest.fixture(scope="module")
def told(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All runs, in a process of their own: they change what torch takes for a device."""
    folder = tmp_path_factory.mktemp("fake")
    recipes = [
        [
            f"name={name.replace(' ', '-')}",
            f"runs_dir={folder}/runs",
            f"data.shards_dir={world}/shards",
            "data=first",
            "model.preset=147m",
            *("model.width=32", "model.heads=4", "model.ffn=16", "model.layers=2"),
            *("trainer.global_batch=16", "trainer.threads=1", "trainer.precision=bf16-mixed"),
            *("optim.clip_norm=1.0", "objective.scalar_scale=standardised"),
            "optim.warmup_steps=1000",  # another rate at each step
            *overrides,
        ]
        for name, overrides in RUNS.items()
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        input=json.dumps(recipes),
        capture_output=True,
        text=True,
        env={**os.environ, "LCM_SALT_FILE": str(world / "salt"), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    waits, *runs = map(json.loads, done.stdout.splitlines())
    return {"waits that nobody sees": waits, **dict(zip(RUNS, runs, strict=True))}


def launches(run: dict[str, Any], phase: str) -> dict[str, int]:
    """Of the phase's last step, by part."""
    return [s for s, p in zip(run["steps"], run["phases"], strict=True) if p == phase][-1]


def test_every_way_to_wait_for_the_device_is_seen(told: dict[str, Any]) -> None:
    assert told["waits that nobody sees"] == []


@pytest.mark.parametrize("name", RUNS)
def test_the_host_waits_once_a_step_where_the_step_ends(name: str, told: dict[str, Any]) -> None:
    """Any other wait would have ended the run."""
    assert told[name]["steps"] and {step["reads"] for step in told[name]["steps"]} == {1}


@pytest.mark.parametrize("name", RUNS)
def test_each_step_of_a_phase_launches_the_same(name: str, told: dict[str, Any]) -> None:
    """But for the first one, which makes the optimiser's state."""
    run = told[name]
    for phase in set(run["phases"]):
        steps = [s for s, p in zip(run["steps"], run["phases"], strict=True) if p == phase]
        later = steps[1:]
        assert later and all(step == later[0] for step in later)
        assert {k: v for k, v in steps[0].items() if k != "optimiser"} == {
            k: v for k, v in later[0].items() if k != "optimiser"
        }


# The others: two steps, one of which makes the optimiser's state, and the rate by number.
@pytest.mark.parametrize("name", sorted(RUNS.keys() - {"larger batch", "rate by number"}))
def test_each_step_of_a_phase_asks_for_the_same_operators_with_the_same_numbers_and_memory(
    name: str, told: dict[str, Any]
) -> None:
    """So a step may be recorded: all that differs lies in memory that stays where it is, the batch
    and the rates."""
    run = told[name]
    assert not any(run["from_host"])
    later = [
        changed
        for number, changed in enumerate(run["changed"])
        if number >= 2 and run["phases"][number - 2] == run["phases"][number]
    ]
    assert later and not any(later)


def test_a_rate_that_is_a_number_of_the_host_is_seen(told: dict[str, Any]) -> None:
    before, after = told["rate by number"]["changed"][-1]
    assert "_fused_adamw_" in before and before != after


@pytest.mark.parametrize("name", RUNS)
def test_every_batch_of_an_epoch_has_the_same_shapes(name: str, told: dict[str, Any]) -> None:
    """33 scans in batches of 16 or 24: the last one is padded, so a graph captured once serves
    all."""
    shapes = told[name]["shapes"]
    assert len(shapes) == len(told[name]["steps"]) and all(s == shapes[0] for s in shapes)


def test_launches_do_not_grow_with_the_batch(told: dict[str, Any]) -> None:
    assert launches(told["larger batch"], "b") == launches(told["absorbed"], "b")


def test_a_target_costs_its_loss_and_its_rows_and_nothing_in_the_layers(
    told: dict[str, Any],
) -> None:
    """Two of four targets left out: what is saved is less than two dozen launches each."""
    many, few = (sum(launches(told[n], "b").values()) for n in ("absorbed", "fewer targets"))
    assert 0 < many - few < 2 * 40


def test_flash_launches_less_than_projected(told: dict[str, Any]) -> None:
    assert sum(launches(told["flash"], "b").values()) < sum(
        launches(told["projected"], "b").values()
    )
