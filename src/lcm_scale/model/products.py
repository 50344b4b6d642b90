"""Matrix products, and layers made of them, through the quickest exact kernel there is.

On CPUs torch sends fp32 products to MKL, which takes its AVX2 path on other makers' processors: 105
GFLOP/s a core on a Zen 5 on which oneDNN reaches 225 in the same precision. `multiply` goes to
oneDNN there; everywhere else (GPUs, bf16, fp64, small factors) it is torch's own. A Zen 4 core
multiplies 256 bits at once, so that MKL loses little there, and can do what oneDNN cannot: write
into a given tensor, and make one product of a batch on each thread (docs/log.md). `Linear` and
`project` give the weights' gradients as whole tensors: autograd's slices of a packed weight would
each cost a zero-filled copy of all of it.

A weight may have a low-rank adapter (LoRA, Hu et al. 2021, arXiv 2106.09685): it then stands still,
and the product is with `adapted`, formed once a step, which is what merging leaves. The adapter's
gradients come from the product's inputs and output gradients, so that of a weight is never made.

Legend: N rows, I inputs, O outputs, P parts of a packed weight, r the adapter's rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Below so many multiply-adds, the call costs more than the kernel saves.
SMALL = 1 << 20
# Rows of a weight's gradient at a time, where it is copied; from more inputs on, pieces cost speed
# (docs/log.md).
ROWS, FEW = 2048, 512


def _has_onednn() -> bool:
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() not in (
        "AVX2",
        "AVX512",
    ):
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")


ONEDNN = _has_onednn()


def _is_zen4() -> bool:
    """AMD's first core with bf16 products; later ones have what is asked for last."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    named = str(capabilities.get("cpu_name", "")).startswith("AMD")
    later = capabilities.get("avx512_vp2intersect") or capabilities.get("avx_vnni")
    return named and bool(capabilities.get("avx512_bf16")) and not later


ZEN4 = _is_zen4()


def _by_onednn(a: Tensor, b: Tensor, multiply_adds: int) -> bool:
    """Whether oneDNN multiplies these two."""
    return (
        ONEDNN
        and a.device.type == "cpu"
        and a.dtype == b.dtype == torch.float32
        and multiply_adds >= SMALL
    )


def _in_place(out: Tensor, a: Tensor, b: Tensor) -> bool:
    """Whether torch's own product had better write fp32 into `out` itself, or make a batch."""
    return (
        ZEN4
        and not torch.compiler.is_compiling()  # its graphs take no product into part of a tensor
        and out.device.type == "cpu"
        and out.dtype == a.dtype == b.dtype == torch.float32
        and out.is_contiguous()
        and torch.get_num_threads() > 1  # of one thread, oneDNN is the quicker
    )


def multiply(a_NI: Tensor, b_IO: Tensor) -> Tensor:
    """a @ b of two matrices, without autograd."""
    if _by_onednn(a_NI, b_IO, a_NI.numel() * b_IO.shape[1]):
        return torch.ops.mkldnn._linear_pointwise(a_NI, b_IO.t(), None, "none", [], "")
    return a_NI @ b_IO


def multiply_into(out_NO: Tensor, a_NI: Tensor, b_IO: Tensor) -> None:
    """out = a @ b in out's type; of few inputs, some rows at a time, so that no second matrix of
    out's size is held."""
    if _in_place(out_NO, a_NI, b_IO):
        torch.mm(a_NI, b_IO, out=out_NO)
        return
    rows = ROWS if a_NI.shape[1] <= FEW else len(out_NO)
    for first in range(0, len(out_NO), rows):
        out_NO[first : first + rows].copy_(multiply(a_NI[first : first + rows], b_IO))


def affine(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """x @ weight.T + bias over the last dimension, without autograd."""
    if _by_onednn(x, weight_OI, x.numel() * len(weight_OI)):
        flat = x.reshape(-1, x.shape[-1])
        return torch.ops.mkldnn._linear_pointwise(flat, weight_OI, bias_O, "none", [], "").view(
            *x.shape[:-1], -1
        )
    return F.linear(x, weight_OI, bias_O)


def product_dtype(x: Tensor) -> torch.dtype:
    """What products are computed in: autocast's type where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def plainly(x: Tensor) -> Any:
    """A context in which no operation casts: the functions below have cast what they wanted
    cast."""
    return torch.autocast(x.device.type, enabled=False)


class LowRank(NamedTuple):
    """A weight's adapter, scale B A: `a` (P, r, I), `b` (P, O / P, r), `scale` ()."""

    a: Tensor
    b: Tensor
    scale: Tensor

    def part(self, first: int, end: int) -> LowRank:
        """Of some parts of the weight."""
        return LowRank(self.a[first:end], self.b[first:end], self.scale)


def adapted(weight_OI: Tensor, low_rank: LowRank, dtype: torch.dtype) -> Tensor:
    """W + scale B A, summed in the weight's own precision and then cast, without autograd."""
    with torch.no_grad(), plainly(weight_OI):
        P, _, inputs = low_rank.a.shape
        parts = weight_OI.reshape(P, -1, inputs)
        whole = torch.baddbmm(parts, low_rank.b * low_rank.scale, low_rank.a)
        return whole.view(weight_OI.shape).to(dtype)


def adapter_gradients(
    sides: Sequence[tuple[Tensor, Tensor]], a: Tensor, b: Tensor, scale: Tensor
) -> list[Tensor]:
    """Gradients of A and B from those of each part of the weight, which are never made themselves.

    Args: sides: one a part, left (H, N, O / P / H) and right (H, N, I): the weight's gradient would
        be left[h].T @ right[h], the H below each other.
    """
    parts = zip(sides, a, b, strict=True)
    found = [
        _factored(left, right, a_rI.to(left.dtype), b_Or.to(left.dtype))
        for (left, right), a_rI, b_Or in parts
    ]
    return [torch.stack(each).to(a.dtype) * scale for each in zip(*found, strict=True)]


def _factored(
    left_HNO: Tensor, right_HNI: Tensor, a_rI: Tensor, b_Or: Tensor
) -> tuple[Tensor, Tensor]:
    H, N, inputs = right_HNI.shape
    rank = len(a_rI)
    right = right_HNI.reshape(H * N, inputs)
    low_HNr = multiply(right, a_rI.t()).view(H, N, rank)
    d_b = batched(left_HNO.transpose(1, 2), low_HNr).view(b_Or.shape)
    up_HNr = batched(left_HNO, b_Or.reshape(H, -1, rank))
    return multiply(up_HNr.reshape(H * N, rank).t(), right), d_b


class _Tap(torch.autograd.Function):
    """y as it is; an adapter takes its gradients from y's and from the rows that y was made of."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(x, a, b, scale)
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> Any:
        x, a, b, scale = ctx.saved_tensors
        with plainly(d_y):
            rows = x.reshape(1, -1, x.shape[-1])
            parts = d_y.reshape(1, -1, d_y.shape[-1]).chunk(len(a), dim=-1)
            d_a, d_b = adapter_gradients([(part, rows) for part in parts], a, b, scale)
        return d_y, None, d_a, d_b, None


def tap(y: Tensor, x: Tensor, low_rank: LowRank) -> Tensor:
    """y = x @ `adapted`.T, whose gradient reaches the adapter too; that of x is y's own affair."""
    return _Tap.apply(y, x.detach(), *low_rank)


class Adaptable(nn.Module):
    """A module with one weight that an adapter may be put on.

    The adapter's parameters are the module's own, so that ZeRO-3 gathers them with the weight.
    """

    def adapt(self, weight: Tensor, parts: int, rank: int, alpha: float) -> None:
        """Put one on a packed weight of so many parts; B is 0, so nothing changes yet."""
        outputs, inputs = weight.shape
        a, b = (
            weight.new_empty(parts, rank, inputs),
            weight.new_zeros(parts, outputs // parts, rank),
        )
        nn.init.uniform_(a, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))  # as nn.Linear's weight
        self.lora_a, self.lora_b = nn.Parameter(a), nn.Parameter(b)
        self.register_buffer("lora_scale", weight.new_tensor(alpha / rank))

    @property
    def low_rank(self) -> LowRank | None:
        a: Any = getattr(self, "lora_a", None)
        return None if a is None else LowRank(a, self.lora_b, self.lora_scale)  # type: ignore[arg-type]


class _Project(torch.autograd.Function):
    """Two inputs through the two parts of one packed weight."""

    @staticmethod
    def forward(
        ctx: Any, first: Tensor, second: Tensor | None, weight: Tensor, bias: Tensor, split: int
    ) -> Any:
        with plainly(first):
            used = weight if second is not None else weight[:split]
            working, biases = used.to(first.dtype), bias.to(first.dtype)
            rows = (first, second) if ctx.needs_input_grad[2] else (None, None)
            ctx.save_for_backward(*rows, weight if working.dtype == weight.dtype else working)
            ctx.split, ctx.shape, ctx.dtype = split, weight.shape, weight.dtype
            one = affine(first, working[:split], biases[:split])
            two = None if second is None else affine(second, working[split:], biases[split:])
            if two is not None and not any(ctx.needs_input_grad[1:3]):
                ctx.mark_non_differentiable(
                    two
                )  # else the gradients of keys and values would be made for nobody
            return one, two

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_one: Tensor, d_two: Tensor | None) -> Any:
        first, second, weight = ctx.saved_tensors
        split = ctx.split
        wants_first, wants_second, wants_weight = ctx.needs_input_grad[:3]
        d_weight = d_bias = None
        with plainly(weight):
            if wants_weight:
                d_weight = torch.empty(ctx.shape, dtype=ctx.dtype, device=weight.device)
                d_bias = torch.empty(len(d_weight), dtype=ctx.dtype, device=weight.device)
                _fill(d_weight[:split], d_bias[:split], first, d_one)
                _fill(d_weight[split:], d_bias[split:], second, d_two)
            d_first = _input_gradient(d_one, weight[:split]) if wants_first else None
            d_second = None
            if wants_second and d_two is not None:
                d_second = _input_gradient(d_two, weight[split:])
        return d_first, d_second, d_weight, d_bias, None


def _fill(d_weight: Tensor, d_bias: Tensor, x: Tensor | None, d_y: Tensor | None) -> None:
    """The gradients of one part of the weight and bias; 0 where that part was not used."""
    if x is None or d_y is None:
        d_weight.zero_(), d_bias.zero_()
        return
    flat = d_y.reshape(-1, d_y.shape[-1])
    multiply_into(d_weight, flat.t(), x.reshape(-1, x.shape[-1]))
    d_bias.copy_(flat.sum(0))


def _input_gradient(d_y: Tensor, weight: Tensor) -> Tensor:
    return multiply(d_y.reshape(-1, d_y.shape[-1]), weight).view(*d_y.shape[:-1], -1)


def project(
    first: Tensor,
    second: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    split: int,
    low_rank: LowRank | None = None,
) -> tuple[Tensor, Tensor | None]:
    """first @ weight[:split].T + bias[:split], and second with the rest of the rows (None: not
    computed).

    Args: low_rank: the adapter of a weight that is `adapted` already.
    """
    dtype = product_dtype(first)
    first = first.to(dtype)
    second = None if second is None else second.to(dtype)
    one, two = _Project.apply(first, second, weight, bias, split)
    if low_rank is not None:
        P = len(low_rank.a)
        parts = split * P // len(weight)
        one = tap(one, first, low_rank.part(0, parts))
        two = None if second is None else tap(two, second, low_rank.part(parts, P))
    return one, two


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return affine(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        d_x = _input_gradient(d_y, weight) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return d_x, None, None
        flat = d_y.reshape(-1, d_y.shape[-1])
        d_bias = flat.sum(0) if ctx.needs_input_grad[2] else None
        return d_x, multiply(flat.t(), x.reshape(-1, x.shape[-1])), d_bias


class Linear(nn.Linear, Adaptable):
    """nn.Linear, its fp32 products on CPUs through `multiply`."""

    def forward(self, input: Tensor) -> Tensor:
        return self.affine(input, self.bias)

    def affine(self, input: Tensor, bias: Tensor) -> Tensor:
        """The map with that bias."""
        low_rank = self.low_rank
        if low_rank is None:
            return self._times(input, self.weight, bias)
        input = input.to(product_dtype(input))
        weight = adapted(self.weight, low_rank, input.dtype)
        return tap(self._times(input, weight, bias), input, low_rank)

    def _times(self, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        fits = (
            input.shape[-1] == self.in_features
        )  # torch's own error names the shapes, oneDNN's does not
        wide = product_dtype(input) == torch.float32
        if fits and wide and _by_onednn(input, weight, input.numel() * self.out_features):
            return _Affine.apply(input, weight, bias)
        return F.linear(input, weight, bias)


def batched(a_GNI: Tensor, b_GIO: Tensor, into: Tensor | None = None) -> Tensor:
    """a[g] @ b[g] for every g, without autograd; `into`: where to write them, any strides, [g] of N
    x O numbers."""
    if not _by_onednn(a_GNI, b_GIO, a_GNI[0].numel() * b_GIO.shape[2]):
        out = torch.bmm(a_GNI, b_GIO)
        return out if into is None else into.copy_(out.view(into.shape))
    if into is None:
        into = a_GNI.new_empty(len(a_GNI), a_GNI.shape[1], b_GIO.shape[2])
    if _in_place(into, a_GNI, b_GIO):
        return torch.bmm(a_GNI, b_GIO, out=into)
    for g in range(len(a_GNI)):
        into[g].copy_(multiply(a_GNI[g], b_GIO[g]).view(into.shape[1:]))
    return into
