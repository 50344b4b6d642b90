"""How a run is spread over hardware, as Lightning arguments, in the order in which they are
decided.

Lightning is imported where it is used: it takes longer than all else that prepares a run.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import torch

from lcm_scale.config import LoRAConfig, TrainerConfig, Trains
from lcm_scale.errors import InputError
from lcm_scale.hardware.allocator import keep_freed_memory
from lcm_scale.hardware.machine import accelerator_here
from lcm_scale.hardware.precision import precision_of
from lcm_scale.model.lcm import LCM
from lcm_scale.model.lora import BESIDE, add_adapters
from lcm_scale.ranks import under_slurm
from lcm_scale.training.together import Together


@dataclass(frozen=True)
class Hardware:
    """What a run computes on.

    Attributes:
        accelerator: ``cpu`` or ``gpu``.   precision: one of Lightning's.
    """

    accelerator: str
    precision: str


def choose_hardware(config: TrainerConfig, width: int) -> Hardware:
    """The device and precision of a recipe whose model is so wide; nothing is set up yet.

    Raises: InputError where the machine lacks what the recipe names, or its parts exclude each
        other.
    """
    # 1. the device: the first GPU there is, unless the recipe says otherwise
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    accelerator = accelerator_here(config.accelerator)
    # Slurm may show each task its own GPU only.
    if accelerator == "gpu" and not under_slurm() and config.devices > count:
        raise InputError(f"trainer.devices={config.devices}: {count} GPU(s) here")
    if under_slurm():
        _check_tasks(config)
    # 2. precision: bf16 where the hardware makes it the faster one, fp32 master weights either way
    precision = precision_of(config.precision, "cuda" if accelerator == "gpu" else "cpu", width)
    # 3. who holds what
    zero = config.strategy.startswith("zero")
    # On GPUs `auto` takes a stage that can offload.
    offloads = config.offload and config.strategy == "auto" and accelerator == "gpu"
    if config.offload and not (zero or offloads):
        raise InputError("trainer.offload=true needs trainer.strategy=zero1, zero2 or zero3")
    if (zero or offloads) and importlib.util.find_spec("deepspeed") is None:
        key = "offload=true" if offloads else f"strategy={config.strategy}"
        raise InputError(
            f"trainer.{key}: DeepSpeed is not installed: pip install 'lcm-scale[deepspeed]'"
        )
    if config.compile and config.strategy == "zero3":
        raise InputError(
            "trainer.compile=true: ZeRO-3's hooks, which gather weights, do not go into a graph; "
            "use zero2"
        )
    if config.cuda_graph:
        _check_graph(config, accelerator)
    return Hardware(accelerator, precision)


def _check_graph(config: TrainerConfig, accelerator: str) -> None:
    """What a recorded step excludes: collectives inside it, gradients from before it, and random
    states that the host reads in its middle."""
    excluded = {
        f"trainer.accelerator={config.accelerator} (no GPU)": accelerator != "gpu",
        f"trainer.devices={config.devices}": config.devices > 1,
        f"trainer.nodes={config.nodes}": config.nodes > 1,
        f"trainer.strategy={config.strategy}": config.strategy != "auto",
        "trainer.offload=true": config.offload,
        f"trainer.accumulate={config.accumulate}": config.accumulate > 1,
        "trainer.checkpoint_layers=true": config.checkpoint_layers,
    }
    for what, holds in excluded.items():
        if holds:
            raise InputError(
                f"trainer.cuda_graph=true: a whole step is recorded on one GPU, which {what} "
                "excludes; leave one of them out"
            )


def _check_tasks(config: TrainerConfig) -> None:
    """Lightning counts Slurm's tasks when it starts, with an exception of its own."""
    from lightning.fabric.plugins.environments import SLURMEnvironment

    try:
        SLURMEnvironment(auto_requeue=False).validate_settings(config.devices, config.nodes)
    except ValueError as error:
        raise InputError(
            f"trainer.devices={config.devices} trainer.nodes={config.nodes}: not what Slurm "
            f"started ({' '.join(str(error).split())[:160]})"
        ) from error


def trainer_arguments(
    config: TrainerConfig,
    hardware: Hardware,
    together: Together,
    threads: int,
    same_targets: bool = False,
) -> dict[str, Any]:
    """What Lightning's Trainer is told; threads and allocator of this process are set on the way.

    Args:
        config: as the run takes it (cost/choice.py): of several processes `auto` is DDP.
        together: where a checkpoint's failure is held until the ranks meet.
        threads: of this process.
        same_targets: whether all phases of the run train the same ones.
    """
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    from lcm_scale.training.parallel.checkpoint_io import AtomicCheckpointIO

    accelerator = hardware.accelerator
    # 1. threads
    processes = config.devices * config.nodes
    torch.set_num_threads(threads)
    if accelerator == "cpu":
        keep_freed_memory()
    # 2. processes: Slurm's tasks, or children that Lightning starts. Lightning's own requeueing
    #    saves inside the signal handler, where a collective may hang, so it is off (signals.py).
    plugins: list[Any] = [AtomicCheckpointIO(together)]
    if under_slurm():
        plugins.append(SLURMEnvironment(auto_requeue=False))
    # 3. who holds what: everything on every device, or pieces of it
    return {
        "accelerator": accelerator,
        "devices": config.devices,
        "num_nodes": config.nodes,
        # ZeRO's strategy brings its own way of computing in bf16.
        "precision": None if config.strategy.startswith("zero") else hardware.precision,
        "strategy": _strategy(config, hardware, processes, same_targets),
        "accumulate_grad_batches": config.accumulate,
        "plugins": plugins,
    }


def prepare_model(model: LCM, config: TrainerConfig, trains: Trains) -> None:
    """What is done to a model before it trains, in order."""
    # 1. what trains; the rest gets neither gradients nor optimiser state
    if trains != "all":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(BESIDE))
    if isinstance(trains, LoRAConfig):
        add_adapters(model, trains)
    # 2. layers that run again in backward, before compiling, so that a compiled layer is what runs
    # again
    model.checkpointing = config.checkpoint_layers
    # 3. compiling, a layer at a time: one graph serves all
    if config.compile:
        for layer in model.layers:
            layer.compile()


def _strategy(config: TrainerConfig, hardware: Hardware, processes: int, same_targets: bool) -> Any:
    name = config.strategy
    if name.startswith("zero"):
        from lcm_scale.training.parallel.zero import ZeroStrategy

        on_cpu = hardware.accelerator == "cpu"
        return ZeroStrategy(int(name[-1]), config.offload, on_cpu, hardware.precision)
    if name == "auto" and processes == 1:
        return "auto"
    from lightning.pytorch.strategies import DDPStrategy

    # Targets that a phase leaves out get no gradient. Where all phases train the same ones, each
    # step uses the same weights, and DDP learns at the first which those are; else it looks for
    # them at every step, and the host waits until the ranks agree. A first step in micro-batches
    # would teach it by one that sends nothing.
    static = same_targets and config.accumulate == 1
    # Buffers are the same on all ranks already. Gradients live in the buckets that are sent: else
    # each is held twice.
    return DDPStrategy(
        static_graph=static,
        find_unused_parameters=not static,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )
