"""How a run is spread over hardware, as Lightning arguments, in the order in which they are
decided."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from lcm_scale.config import TrainerConfig
from lcm_scale.errors import InputError
from lcm_scale.hardware.allocator import keep_freed_memory
from lcm_scale.hardware.precision import precision_of
from lcm_scale.model.lcm import LCM
from lcm_scale.ranks import under_slurm
from lcm_scale.training.parallel.checkpoint_io import AtomicCheckpointIO


def trainer_arguments(config: TrainerConfig, width: int) -> dict[str, Any]:
    """Accelerator, precision and strategy of a recipe whose model is so wide.

    Raises: InputError where the machine lacks what the recipe names.
    """
    # 1. the device: the first GPU there is, unless the recipe says otherwise
    accelerator = config.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if torch.cuda.is_available() else "cpu"
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise InputError("trainer.accelerator=gpu: no usable GPU here; use trainer.accelerator=cpu")
    # 2. precision: bf16 where the hardware makes it the faster one, fp32 master weights either way
    precision = precision_of(config.precision, "cuda" if accelerator == "gpu" else "cpu", width)
    # 3. threads: this process's share of what the scheduler granted, not of what the machine has
    processes = config.devices * config.nodes
    here = 1 if under_slurm() or accelerator == "gpu" else config.devices
    torch.set_num_threads(config.threads or max(1, len(os.sched_getaffinity(0)) // here))
    if accelerator == "cpu":
        keep_freed_memory()
    # 4. processes: Slurm's tasks, or children that Lightning starts; Lightning's own requeueing
    # saves inside the signal
    #    handler, where a collective may hang, so it is off (signals.py)
    plugins: list[Any] = [AtomicCheckpointIO()]
    if under_slurm():
        plugins.append(SLURMEnvironment(auto_requeue=False))
    # 5. who holds what: everything on every device, or pieces of it
    strategy = _strategy(config, accelerator, precision, processes)
    return {
        "accelerator": accelerator,
        "devices": config.devices,
        "num_nodes": config.nodes,
        # ZeRO's strategy brings its own way of computing in bf16.
        "precision": None if config.strategy.startswith("zero") else precision,
        "strategy": strategy,
        "accumulate_grad_batches": config.accumulate,
        "plugins": plugins,
    }


def prepare_model(model: LCM, config: TrainerConfig, trainable: str) -> None:
    """What is done to a model before it trains, in order.

    Raises: InputError where the recipe's parts exclude each other.
    """
    # 1. what trains; the rest gets neither gradients nor optimiser state
    if trainable == "tokens":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(
                name.startswith(("tokens.", "norm.", "readout.", "edge_branch."))
            )
    # 2. layers that run again in backward, before compiling, so that a compiled layer is what runs
    # again
    model.checkpointing = config.checkpoint_layers
    # 3. compiling, a layer at a time: one graph serves all
    if config.compile:
        if config.strategy == "zero3":
            raise InputError(
                "trainer.compile=true: ZeRO-3's hooks, which gather weights, do not go into a graph; use zero2"
            )
        for layer in model.layers:
            layer.compile()


def _strategy(config: TrainerConfig, accelerator: str, precision: str, processes: int) -> Any:
    name = config.strategy
    if config.offload and not name.startswith("zero"):
        raise InputError("trainer.offload=true needs trainer.strategy=zero1, zero2 or zero3")
    if name.startswith("zero"):
        try:
            from lcm_scale.training.parallel.zero import ZeroStrategy
        except ImportError as error:
            raise InputError(
                f"trainer.strategy={name}: DeepSpeed is not installed: pip install 'lcm-scale[deepspeed]'"
            ) from error
        return ZeroStrategy(int(name[-1]), config.offload, accelerator == "cpu", precision)
    if name == "auto" and processes == 1:
        return "auto"
    # Phases may leave targets out, whose tokens then get no gradient; buffers are the same on all
    # ranks already. Gradients live in the buckets that are sent: else each is held twice.
    return DDPStrategy(
        find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
    )
