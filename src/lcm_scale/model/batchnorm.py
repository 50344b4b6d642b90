"""Batch norm that ignores padded rows and is the same at every world size.

torch's SyncBatchNorm refuses CPU tensors, and per-rank statistics make the loss depend on the
number of ranks (and, under DeepSpeed, leave each rank with buffers of its own). Here count, sum and
centred sum of squares are summed over the ranks with their gradients, so one process and many
compute the same function. State-dict keys are BatchNorm1d's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def sum_over_ranks(value: Tensor) -> Tensor:
    """`value` summed over the ranks, without autograd; itself where there is one rank."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def _over_rows(weight_N: Tensor, x_ND: Tensor) -> Tensor:
    """Weighted sums (D,) of rows; of several models (G, N) and (G, N, D) -> (G, D)."""
    if weight_N.ndim == 1:
        return weight_N @ x_ND
    return (weight_N.unsqueeze(-2) @ x_ND).squeeze(-2)


class Normalise(torch.autograd.Function):
    """Batch norm and LeakyReLU in one, keeping its output alone, which is the memory and kept
    anyway, and `recompute`.

    A rank's gradients are those of the sum of all ranks' losses, as an all-reduce in forward
    implies. All but the last two dimensions of `x_ND`, and the last of the others, may be preceded
    by one of models (`stack.LCMStack`), each of which is normalised by itself.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight: Tensor,
        bias: Tensor,
        valid_N: Tensor,
        eps: float,
        slope: float,
        recompute: Callable[[], Tensor] | None,
    ) -> Any:
        wide = x_ND.to(torch.promote_types(x_ND.dtype, torch.float32))
        valid_N = valid_N.to(wide.dtype)
        count = sum_over_ranks(valid_N.sum(-1, keepdim=True)).clamp(min=1.0)
        mean = sum_over_ranks(_over_rows(valid_N, wide)) / count
        # Two passes: sum of squares minus squared mean would lose digits where the mean is large.
        spread = (wide - mean.unsqueeze(-2)).square_()
        variance = sum_over_ranks(_over_rows(valid_N, spread)) / count
        scale = weight * torch.rsqrt(variance + eps)
        y_ND = torch.addcmul((bias - mean * scale).unsqueeze(-2), wide, scale.unsqueeze(-2))
        y_ND = F.leaky_relu_(y_ND, slope).to(x_ND.dtype)
        ctx.save_for_backward(
            x_ND if recompute is None else None, y_ND, valid_N, weight, mean, variance, count
        )
        ctx.eps, ctx.slope, ctx.recompute = eps, slope, recompute
        ctx.mark_non_differentiable(mean, variance, count)
        return y_ND, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor, *_: Tensor) -> Any:
        x_ND, y_ND, valid_N, weight, mean, variance, count = ctx.saved_tensors
        if x_ND is None:
            with (
                torch.no_grad(),
                torch.autocast(d_y.device.type, y_ND.dtype, enabled=y_ND.dtype != mean.dtype),
            ):
                x_ND = ctx.recompute().reshape(y_ND.shape)
        rstd = torch.rsqrt(variance + ctx.eps)
        wide = mean.dtype
        # From the output: a slope above 0 leaves its sign.
        d_z = torch.ops.aten.leaky_relu_backward(d_y, y_ND, ctx.slope, True).to(wide)
        normal = (x_ND.to(wide) - mean.unsqueeze(-2)).mul_(rstd.unsqueeze(-2))
        ones = d_z.new_ones(d_z.shape[:-1])
        d_bias, d_weight = _over_rows(ones, d_z), _over_rows(ones, d_z * normal)
        means = sum_over_ranks(torch.stack([d_bias, d_weight])) / count
        # d_x = weight rstd (d_z - mean(d_z) - normal mean(d_z normal)), the means over real rows
        # that all ranks hold
        normal.mul_(means[1].unsqueeze(-2)).add_(means[0].unsqueeze(-2)).mul_(valid_N.unsqueeze(-1))
        d_x = (d_z - normal).mul_((weight * rstd).unsqueeze(-2))
        return (
            d_x.to(x_ND.dtype),
            d_weight.to(weight.dtype),
            d_bias.to(weight.dtype),
            None,
            None,
            None,
            None,
        )


class MaskedBatchNorm(nn.Module):
    """BatchNorm1d over the rows of the scans that are real.

    Legend: B scans, R rows a scan, N = B R, D width. Statistics are taken in fp32 over all real
        rows of all ranks.
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

    def forward(
        self,
        x_BRD: Tensor,
        valid_B: Tensor | None = None,
        slope: float = 1.0,
        recompute: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """Normalise (B, R, D), then LeakyReLU of that slope.

        Args:
            valid_B: 1 for real scans, 0 for padding; None: all real.
            recompute: makes `x_BRD` once more in backward, where that is cheaper than keeping it.
        """
        if not self.training:
            scale, shift = (t.to(x_BRD.dtype) for t in self.folded())
            return F.leaky_relu(torch.addcmul(shift, x_BRD, scale), slope)
        B, R, D = x_BRD.shape
        valid_N = x_BRD.new_ones(B * R) if valid_B is None else valid_B.repeat_interleave(R)
        with torch.autocast(x_BRD.device.type, enabled=False):
            y, mean, variance, count = Normalise.apply(
                x_BRD.reshape(B * R, D), self.weight, self.bias, valid_N, self.eps, slope, recompute
            )
        self._track(mean, variance, count)
        return y.view(B, R, D)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Scale and shift (D,) that this norm is in evaluation."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        # BatchNorm1d keeps the unbiased variance for evaluation.
        self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1.0)), self.momentum)
