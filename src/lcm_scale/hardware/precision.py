"""In which precision a run computes: products in bf16, on fp32 weights, wherever the hardware
multiplies faster in it."""

from __future__ import annotations

import torch

# CPUs: narrower models run in fp32. They would gain 1.0 to 1.6 times (docs/log.md) and lose that a
# small lab gets the same numbers on every machine.
BF16_WIDTH = 512


def precision_of(asked: str, device: str, width: int) -> str:
    """The precision that runs, ``bf16-mixed`` or ``32-true`` unless a recipe names another.

    Args: asked: ``trainer.precision``.   device: ``cuda`` or ``cpu``.   width: of the model.
    """
    if asked != "auto":
        return asked
    return (
        "bf16-mixed" if device == "cuda" or (width >= BF16_WIDTH and cpu_has_bf16()) else "32-true"
    )


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 in hardware (avx512_bf16, amx_bf16); without, torch emulates
    it slowly."""
    # torch 2.11 is supported: its public list of capabilities may be younger than these.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def working_dtype(precision: str) -> torch.dtype:
    """What products are computed in under one of Lightning's precisions."""
    return {"bf16": torch.bfloat16, "16": torch.float16}.get(precision.split("-")[0], torch.float32)
