"""Dropout whose masks take one byte a number, and come from raw random bits where they are many;
on GPUs torch's own, a kernel a pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# CPUs: from so many numbers on, masks come from raw random bits. torch's bernoulli takes 5 ns a
# number, these 1.
MANY = 1 << 16


def keep_mask(
    x: Tensor, probability: float, generator: torch.Generator | None = None
) -> tuple[Tensor, float]:
    """A random mask of x's shape, true where a number is kept, and what kept numbers are multiplied
    with.

    Small masks are torch's own, number for number; large ones on CPUs have a probability rounded to
    1 / 65536.

    Args: generator: of the random numbers; None: torch's own.
    """
    n = x.numel()
    if x.device.type != "cpu" or n < MANY:
        kept = torch.empty(x.shape, dtype=torch.bool, device=x.device)
        kept.bernoulli_(1 - probability, generator=generator)
        return kept, 1 / (1 - probability)
    parts = min(max(round(probability * 65536), 1), 65535)
    bits = torch.empty(-(-n // 4), dtype=torch.int64)
    bits = bits.random_(-(2**63), None, generator=generator).view(torch.int16)
    return (bits[:n] >= parts - 32768).view(x.shape), 65536 / (65536 - parts)


def apply_mask(x: Tensor, kept: Tensor, scale: float) -> Tensor:
    """x where kept, times scale. (On CPUs, a product with booleans is several times slower than
    this.)"""
    if x.device.type != "cpu":
        return torch.ops.aten.native_dropout_backward(x, kept, scale)
    return kept.view(torch.uint8).to(x.dtype).mul_(scale).mul_(x)


def dropped(x: Tensor, probability: float) -> tuple[Tensor, Tensor, float]:
    """x under a mask that is drawn for it, the mask, and what kept numbers were multiplied with.
    Without autograd; the mask is the one that `dropout` would draw."""
    if x.device.type != "cpu":
        return *torch.native_dropout(x, probability, True), 1 / (1 - probability)
    kept, scale = keep_mask(x, probability)
    return apply_mask(x, kept, scale), kept, scale


class Dropped(torch.autograd.Function):
    """x where `kept`, times `scale`; backward needs the mask alone, one byte a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        ctx.save_for_backward(kept)
        return apply_mask(x, kept, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        return apply_mask(d_y, kept, ctx.scale), None, None


def dropout(x: Tensor, probability: float) -> Tensor:
    """Dropout whose mask takes one byte a number (on CPUs F.dropout keeps it in x's own type)."""
    if not probability:
        return x
    if x.device.type == "cpu":
        return Dropped.apply(x, *keep_mask(x, probability))
    return torch.native_dropout(x, probability, True)[0]


class Dropout(nn.Dropout):
    """nn.Dropout through `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p if self.training else 0.0)
