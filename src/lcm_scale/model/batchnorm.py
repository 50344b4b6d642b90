"""Batch norm that ignores padded rows and is the same at every world size.

torch's SyncBatchNorm refuses CPU tensors, and per-rank statistics make the loss depend on the number of ranks (and,
under DeepSpeed, leave each rank with buffers of its own). Here count, sum and centred sum of squares are summed over the
ranks with their gradients, so one process and many compute the same function. State-dict keys are BatchNorm1d's.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of the gradients."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def sum_over_ranks(value: Tensor) -> Tensor:
    """`value` summed over the ranks, differentiable; itself where there is one rank."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return _SumOverRanks.apply(value)
    return value


class MaskedBatchNorm(nn.Module):
    """BatchNorm1d over the rows of the scans that are real.

    Legend: B scans, R rows a scan, D width. Statistics are taken in fp32 over all real rows of all ranks.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, width: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x_BRD: Tensor, valid_B: Tensor | None = None) -> Tensor:
        """Normalise (B, R, D); `valid_B` is 1 for real scans, 0 for padding (None: all real)."""
        if not self.training:
            scale = self.weight * torch.rsqrt(self.running_var + self.eps)
            return x_BRD * scale.to(x_BRD.dtype) + (self.bias - self.running_mean * scale).to(x_BRD.dtype)
        with torch.autocast(x_BRD.device.type, enabled=False):
            mean, variance, count = self._statistics(x_BRD.to(torch.promote_types(x_BRD.dtype, torch.float32)), valid_B)
        self._track(mean.detach(), variance.detach(), count)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return x_BRD * scale.to(x_BRD.dtype) + (self.bias - mean * scale).to(x_BRD.dtype)

    def _statistics(self, x_BRD: Tensor, valid_B: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if valid_B is None:
            valid_B = torch.ones(len(x_BRD), device=x_BRD.device)
        valid = valid_B.to(x_BRD.dtype)[:, None, None]
        count = sum_over_ranks(valid.sum() * x_BRD.shape[1]).clamp(min=1.0)
        mean = sum_over_ranks((x_BRD * valid).sum((0, 1))) / count
        # Two passes: sum of squares minus squared mean would lose digits where the mean is large.
        variance = sum_over_ranks(((x_BRD - mean).square() * valid).sum((0, 1))) / count
        return mean, variance, count

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        # BatchNorm1d keeps the unbiased variance for evaluation.
        self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1.0)), self.momentum)
