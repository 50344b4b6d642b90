"""Which way DDP is asked to go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from lcm_scale.config import TrainerConfig
from lcm_scale.errors import InputError
from lcm_scale.training.parallel import strategy
from lcm_scale.training.parallel.strategy import Hardware, choose_hardware, trainer_arguments
from lcm_scale.training.together import Together


@pytest.mark.parametrize(
    ("same_targets", "accumulate", "static"),
    [(True, 1, True), (False, 1, False), (True, 2, False)],
)
def test_ddp_looks_for_unused_weights_only_where_they_may_change(
    same_targets: bool, accumulate: int, static: bool
) -> None:
    config = TrainerConfig(strategy="ddp", devices=2, accumulate=accumulate, threads=1)
    made = trainer_arguments(config, Hardware("cpu", "32-true"), Together(), 1, same_targets)
    asked = made["strategy"]._ddp_kwargs
    assert (asked["static_graph"], asked["find_unused_parameters"]) == (static, not static)


@pytest.mark.parametrize(
    "words",
    [
        {"devices": 2},
        {"nodes": 2},
        {"strategy": "zero2"},
        {"strategy": "ddp"},
        {"accumulate": 2},
        {"checkpoint_layers": True},
    ],
)
def test_what_excludes_a_recorded_step_is_named_on_a_gpu(
    words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "accelerator_here", lambda asked: "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    usual = TrainerConfig(cuda_graph=True, precision="32-true")
    assert choose_hardware(usual, 64).accelerator == "gpu"
    ((key, value),) = words.items()
    with pytest.raises(InputError, match=rf"(?i)cuda_graph=true: .*{key}={value} excludes"):
        choose_hardware(replace(usual, **words), 64)
