"""The verb that measures this machine once: it parses and prints, nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lcm_scale.errors import InputError
from lcm_scale.terminal import print


def tune(
    device: Annotated[
        Literal["auto", "cpu", "gpu"], typer.Option(help="auto: the GPU where there is one.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the CPU; default: OMP_NUM_THREADS, else 1.")
    ] = None,
) -> None:
    """Measure what this machine takes for the formulations of the attention, once.

    Later runs with model.attention=auto go by it, with as many threads on the same processor and
    torch. A recipe that names a formulation decides over it.
    """
    import torch

    from lcm_scale.hardware import tune as machine
    from lcm_scale.hardware.threads import given

    on_gpu = torch.cuda.is_available() if device == "auto" else device == "gpu"
    if on_gpu and not torch.cuda.is_available():
        raise InputError("--device gpu: no usable GPU here; use --device cpu")
    known = given(threads)
    number = known.number if known else 1
    torch.set_num_threads(number)
    kind = "cuda" if on_gpu else "cpu"

    def say(what: str, width: int, factor: float) -> None:
        print(
            f"{what}  width {width:>4}  absorbed takes {factor:.2f} times what is counted",
            flush=True,
        )

    path = machine.store(machine.measure(kind, say), kind, number)
    of = machine.Machine.here(kind, number)
    counted = f", {number} thread{'s' * (number > 1)}" if kind == "cpu" else ""
    print(f"kept for {of.processor}, torch {of.torch}{counted}: {path}")
    print("next: lcm-scale doctor RECIPE")
