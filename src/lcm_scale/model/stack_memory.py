"""The memory rows of a stack's scans, whose gradient the products that read them sum themselves.

Absorbed attention reads the memory twice a layer. Left to autograd, each read makes a gradient as
large as the memory, and a pass adds it to the others': an eighth of a small stack's step. Here the
first product of a backward pass makes one, and each other one adds to it as it multiplies.

Legend: G models, B scans a model, R regions, D width, N = G B, S rows that attend.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Memory:
    """Memory of one forward pass.

    Attributes:
        rows_GBRD: for whoever reads it otherwise; autograd adds what it gets there.
        reads: products so far.   waiting: those of them that backward has not come to yet.
        gradient_NRD: the sum so far in a backward pass.
    """

    def __init__(self, rows_GBRD: Tensor) -> None:
        self.rows_GBRD = rows_GBRD
        self.reads, self.waiting = 0, 0
        self.gradient_NRD: Tensor | None = None

    def scores(self, sides_NSD: Tensor) -> Tensor:
        """sides @ memory.T, (N, S, D) -> (N, S, R)."""
        rows_NRD = self.rows_GBRD.flatten(0, 1).to(sides_NSD.dtype)
        return _Times.apply(sides_NSD, rows_NRD, True, self)

    def attended(self, weights_NSR: Tensor) -> Tensor:
        """weights @ memory, (N, S, R) -> (N, S, D)."""
        rows_NRD = self.rows_GBRD.flatten(0, 1).to(weights_NSR.dtype)
        return _Times.apply(weights_NSR, rows_NRD, False, self)

    def add(self, left_NRS: Tensor, right_NSD: Tensor) -> None:
        """left @ right to the gradient."""
        self.waiting = (self.waiting or self.reads) - 1
        if self.gradient_NRD is None:
            self.gradient_NRD = torch.bmm(left_NRS, right_NSD)
        else:
            torch.baddbmm(self.gradient_NRD, left_NRS, right_NSD, out=self.gradient_NRD)

    def taken(self) -> Tensor | None:
        """The sum, for the read that backward comes to last."""
        if self.waiting:
            raise RuntimeError("the memory's first product was not the last one of backward")
        gradient, self.gradient_NRD = self.gradient_NRD, None
        return gradient


class _Times(torch.autograd.Function):
    """One product with the memory. Each layer's queries come from the layer before, and a layer's
    weights from its scores, so backward comes to the first product last: it hands the sum on."""

    @staticmethod
    def forward(
        ctx: Any, left: Tensor, rows_NRD: Tensor, transposed: bool, memory: Memory
    ) -> Tensor:
        ctx.save_for_backward(left, rows_NRD)
        ctx.transposed, ctx.memory, ctx.first = transposed, memory, memory.reads == 0
        memory.reads += 1
        return torch.bmm(left, rows_NRD.transpose(1, 2) if transposed else rows_NRD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> Any:
        left, rows_NRD = ctx.saved_tensors
        memory, wanted = ctx.memory, ctx.needs_input_grad[1]
        if ctx.transposed:
            d_left = torch.bmm(d_out, rows_NRD)
            sides = d_out.transpose(1, 2), left
        else:
            d_left = torch.bmm(d_out, rows_NRD.transpose(1, 2))
            sides = left.transpose(1, 2), d_out
        if wanted:
            memory.add(*sides)
        return d_left, memory.taken() if wanted and ctx.first else None, None, None
