"""How a run is spread over hardware, as Lightning arguments, in the order in which they are decided."""

from __future__ import annotations

import os
from typing import Any

import torch

from lcm_scale.config import TrainerConfig
from lcm_scale.errors import InputError


def trainer_arguments(config: TrainerConfig) -> dict[str, Any]:
    """Accelerator, precision and strategy of a recipe.

    Raises: InputError where the machine lacks what the recipe names.
    """
    # 1. the device: the first GPU there is, unless the recipe says otherwise
    accelerator = config.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError("trainer.accelerator=gpu: no usable GPU here; use trainer.accelerator=cpu")
    # 2. precision: bf16 where tensor cores make it the faster one, fp32 master weights either way
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if accelerator == "gpu" else "32-true"
    # 3. threads: what the scheduler granted, not what the machine has
    threads = config.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    # 4. processes: one needs no strategy; several share a global batch under DDP
    processes = config.devices * config.nodes
    strategy = "auto" if processes == 1 else "ddp"
    return {
        "accelerator": accelerator,
        "devices": config.devices,
        "num_nodes": config.nodes,
        "precision": precision,
        "strategy": strategy,
    }
