"""Batch norm that ignores padded rows and is the same at every world size; of a linear map's
outputs, without making them.

torch's SyncBatchNorm refuses CPU tensors, and per-rank statistics make the loss depend on the
number of ranks (and, under DeepSpeed, leave each rank with buffers of its own). Here count, sum and
centred sum of squares are summed over the ranks with their gradients, so one process and many
compute the same function. State-dict keys are BatchNorm1d's. torch's own kernels for CPUs, which
know neither ranks nor padding, run where there is neither.

Legend: N rows, I inputs of a linear map, D width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lcm_scale.model.products import affine, multiply, plainly, product_dtype

# Outputs from so many times the inputs on, statistics from the inputs are the quicker way on CPUs,
# by whether products are in half the width (docs/log.md).
FROM_INPUTS = {False: 2, True: 8}


def from_inputs(inputs: int, outputs: int, device: str, dtype: torch.dtype) -> bool:
    """Whether the norm of a linear map's outputs takes its statistics from the inputs, so that the
    outputs before the norm are not kept."""
    half = dtype in (torch.bfloat16, torch.float16)
    return device != "cpu" or outputs >= FROM_INPUTS[half] * inputs


def _one_rank() -> bool:
    return not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def sum_over_ranks(value: Tensor) -> Tensor:
    """`value` summed over the ranks, without autograd; itself where there is one rank."""
    if not _one_rank():
        value = value.clone()
        dist.all_reduce(value)
    return value


def _over_rows(weight_N: Tensor, x_ND: Tensor) -> Tensor:
    """Weighted sums (D,) of rows; of several models (G, N) and (G, N, D) -> (G, D)."""
    if weight_N.ndim == 1:
        return weight_N @ x_ND
    return (weight_N.unsqueeze(-2) @ x_ND).squeeze(-2)


class Normalise(torch.autograd.Function):
    """Batch norm and LeakyReLU in one, keeping its input and output alone.

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
    ) -> Any:
        ctx.eps, ctx.slope, ctx.by_torch = eps, slope, _is_plain(x_ND, valid_N)
        if ctx.by_torch:
            y_ND, mean, rstd = _normalised(x_ND, weight, bias, eps)
            y_ND = F.leaky_relu_(y_ND, slope)
            count = torch.full_like(mean[..., :1], x_ND.shape[-2])
            variance = (rstd.pow(-2) - eps).clamp_(min=0.0)
            ctx.save_for_backward(x_ND, y_ND, weight, mean, rstd)
            ctx.mark_non_differentiable(mean, variance, count)
            return y_ND, mean, variance, count
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
        ctx.save_for_backward(x_ND, y_ND, valid_N, weight, mean, variance, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return y_ND, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor, *_: Tensor) -> Any:
        if ctx.by_torch:
            x_ND, y_ND, weight, mean, rstd = ctx.saved_tensors
            d_z = torch.ops.aten.leaky_relu_backward(d_y, y_ND, ctx.slope, True)
            return *_normalised_backward(d_z, x_ND, weight, mean, rstd, ctx.eps), None, None, None
        x_ND, y_ND, valid_N, weight, mean, variance, count = ctx.saved_tensors
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
        )


def _is_plain(x_ND: Tensor, valid_N: Tensor) -> bool:
    """Whether torch's kernels for CPUs normalise these rows."""
    return (
        x_ND.device.type == "cpu"
        and not torch.compiler.is_compiling()  # its graphs read no numbers
        and x_ND.is_contiguous()
        and _one_rank()
        and bool(valid_N.all())
    )


def _normalised(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
    """Rows (N, D) or (G, N, D), their means and reciprocal deviations (D,) or (G, D)."""
    if x.ndim == 2:
        return torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
    found = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
    for g, out in enumerate(zip(*found, strict=True)):
        torch.native_batch_norm(x[g], weight[g], bias[g], None, None, True, 0.0, eps, out=out)
    return found


def _normalised_backward(
    d_y: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, ...]:
    """Gradients of `_normalised`'s rows, weight and bias."""
    of_one = torch.ops.aten.native_batch_norm_backward
    if x.ndim == 2:
        return of_one(d_y, x, weight, None, None, mean, rstd, True, eps, [True] * 3)
    each = zip(d_y, x, weight, mean, rstd, strict=True)
    gradients = [
        of_one(d, x_g, w, None, None, m, r, True, eps, [True] * 3) for d, x_g, w, m, r in each
    ]
    return tuple(torch.stack(parts) for parts in zip(*gradients, strict=True))


class _NormalisedLinear(torch.autograd.Function):
    """Linear map, batch norm and LeakyReLU in one product: the mean and variance of a map's outputs
    follow from the mean and covariance of its I inputs, far fewer than D, and so do the gradients
    that go through them. So no pass over all outputs is for the norm.

    Keeps its output, which is the memory and kept anyway, and the centred inputs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_NI: Tensor,
        map_DI: Tensor,
        map_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
        valid_N: Tensor,
        eps: float,
        slope: float,
    ) -> Any:
        dtype = product_dtype(x_NI)
        with plainly(x_NI):
            wide_NI = x_NI.to(map_DI.dtype)
            valid_N = valid_N.to(wide_NI.dtype)
            own = valid_N.sum()
            count = sum_over_ranks(own).clamp(min=1.0)
            mean_I = sum_over_ranks(valid_N @ wide_NI) / count
            centred_NI = wide_NI - mean_I
            covariance_II = sum_over_ranks((centred_NI * valid_N[:, None]).t() @ centred_NI) / count
            mapped_DI = map_DI @ covariance_II
            variance = (mapped_DI * map_DI).sum(1).clamp_(min=0.0)  # else rounding may be below 0
            rstd = torch.rsqrt(variance + eps)
            scaled_DI = map_DI * (weight * rstd)[:, None]
            centred_NI = centred_NI.to(dtype)
            y_ND = affine(centred_NI, scaled_DI.to(dtype), bias.to(dtype))
            y_ND = F.leaky_relu_(y_ND, slope)
            mean = map_DI @ mean_I + map_bias
            # Copies of the weights: ZeRO-3 takes the parameters themselves away in between.
            ctx.save_for_backward(
                centred_NI, y_ND, map_DI.clone(), mapped_DI, weight.clone(), rstd, own / count
            )
        ctx.slope = slope
        ctx.mark_non_differentiable(mean, variance, count)
        return y_ND, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor, *_: Tensor) -> Any:
        centred_NI, y_ND, map_DI, mapped_DI, weight, rstd, share = ctx.saved_tensors
        with plainly(d_y):
            # From the output: a slope above 0 leaves its sign.
            d_z = torch.ops.aten.leaky_relu_backward(d_y, y_ND, ctx.slope, True)
            d_bias = d_z.sum(0, dtype=rstd.dtype)
            # Of the two ways round, the one whose rows are few: oneDNN copies rows.
            product_DI = multiply(centred_NI.t(), d_z).t().to(rstd.dtype)
            d_weight = (product_DI * map_DI).sum(1).mul_(rstd)
            # d_x = weight rstd (d_z - mean(d_z) - normal mean(d_z normal)), the means over real
            # rows that all ranks hold, times the centred inputs: the first mean meets a sum of 0,
            # and the normal rows' product with the inputs is mapped and scaled covariance. A rank
            # takes the share of it that its rows have.
            through = (rstd * sum_over_ranks(d_weight) * share)[:, None]
            d_map = (weight * rstd)[:, None] * (product_DI - through * mapped_DI)
        # The map's bias goes with the mean: its gradient is zero, and not absent, which hangs DDP.
        return None, d_map, torch.zeros_like(weight), d_weight, d_bias, None, None, None


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
        linear: nn.Linear | None = None,
    ) -> Tensor:
        """Normalise (B, R, D), then LeakyReLU of that slope.

        Args:
            valid_B: 1 for real scans, 0 for padding; None: all real.
            linear: a map (of I inputs) to apply first; called with this norm and the rest.
        """
        if linear is not None:
            device, dtype = x_BRD.device.type, product_dtype(x_BRD)
            at_once = from_inputs(x_BRD.shape[-1], len(self.weight), device, dtype)
            if at_once and self.training and not x_BRD.requires_grad:
                return linear(x_BRD, self, valid_B, slope)
            x_BRD = linear(x_BRD)
        if not self.training:
            scale, shift = (t.to(x_BRD.dtype) for t in self.folded())
            return F.leaky_relu(torch.addcmul(shift, x_BRD, scale), slope)
        B, R, D = x_BRD.shape
        with torch.autocast(x_BRD.device.type, enabled=False):
            y, mean, variance, count = Normalise.apply(
                x_BRD.reshape(B * R, D),
                self.weight,
                self.bias,
                valid_rows(x_BRD, valid_B),
                self.eps,
                slope,
            )
        self.track(mean, variance, count)
        return y.view(B, R, D)

    def after(
        self,
        x_BRI: Tensor,
        map_DI: Tensor,
        map_bias: Tensor,
        valid_B: Tensor | None,
        slope: float,
    ) -> Tensor:
        """`forward` in training of x @ map.T + its bias, (B, R, I) -> (B, R, D).

        x gets no gradient.
        """
        y, mean, variance, count = _NormalisedLinear.apply(
            x_BRI.flatten(0, 1),
            map_DI,
            map_bias,
            self.weight,
            self.bias,
            valid_rows(x_BRI, valid_B),
            self.eps,
            slope,
        )
        self.track(mean, variance, count)
        return y.view(*x_BRI.shape[:2], -1)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Scale and shift (D,) that this norm is in evaluation."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Follow a batch's statistics, for evaluation."""
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        # BatchNorm1d keeps the unbiased variance for evaluation.
        self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1.0)), self.momentum)


def valid_rows(x_BRI: Tensor, valid_B: Tensor | None) -> Tensor:
    """(B R,): 1 for the rows of real scans, 0 for those of padding; None: all real."""
    B, R = x_BRI.shape[:2]
    return x_BRI.new_ones(B * R) if valid_B is None else valid_B.repeat_interleave(R)
