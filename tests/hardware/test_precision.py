"""Which precision runs when a recipe leaves it open, and that what is learnt does not depend on
it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lcm_scale.config import Recipe, TrainerConfig
from lcm_scale.hardware import precision
from lcm_scale.hardware.precision import BF16_WIDTH, precision_of, working_dtype
from lcm_scale.training import fit as run
from lcm_scale.training.parallel.strategy import choose_hardware
from lcm_scale.training.run_log import epochs_of, read_log


@pytest.mark.parametrize(
    ("device", "has", "width", "runs"),
    [
        ("cuda", False, 64, "bf16-mixed"),
        ("cpu", True, BF16_WIDTH, "bf16-mixed"),
        ("cpu", True, BF16_WIDTH - 1, "32-true"),
        ("cpu", False, 2048, "32-true"),
    ],
)
def test_bf16_runs_where_the_hardware_is_faster_in_it(
    device: str, has: bool, width: int, runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: has)
    assert precision_of("auto", device, width) == runs
    assert precision_of("32-true", device, width) == "32-true"
    if device == "cpu":
        assert choose_hardware(TrainerConfig(accelerator="cpu"), width).precision == runs


def test_a_wide_model_learns_in_bf16_what_it_learns_in_fp32(
    recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on CPUs that only emulate it."""
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    losses = {}
    for name, asked in (("bf16", "auto"), ("fp32", "32-true")):
        made = recipe(
            f"name={name}",
            f"model.width={BF16_WIDTH}",
            "model.ffn=64",
            f"trainer.precision={asked}",
            "phases=[{name: only, epochs: 3}]",
            "optim.adaptive.lr=1e-5",
        )
        file = run.pretrain(made) / "log.jsonl"
        log, rows = read_log(file), epochs_of(file)
        assert {row["precision"] for row in rows} == {"bf16-mixed" if name == "bf16" else "32-true"}
        losses[name] = [event["loss"] for event in log if event["event"] == "step"] + [
            row["val_loss"] for row in rows
        ]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


def test_the_dtype_of_each_precision() -> None:
    names = ("bf16-mixed", "bf16-true", "16-mixed", "32-true")
    assert [working_dtype(name) for name in names] == [
        torch.bfloat16,
        torch.bfloat16,
        torch.float16,
        torch.float32,
    ]
