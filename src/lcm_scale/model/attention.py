"""Multi-head attention of BEI tokens to FC rows, in exact formulations of one function.

Legend: B scans, M tokens, R regions (memory rows), D width, H heads, K = D / H, N = B M.

- `projected` (as published; the oracle) projects all R memory rows to keys and values.
- `flash` does the same and attends by flash-attn where it is installed and can, else by torch's
  fused kernel. Exact without dropout; its dropout masks are its own, right in distribution.
- `absorbed`: M is far smaller than R, so project the *queries* instead: W_k is absorbed into q, W_v
  is applied after attending, keys and values are never formed. The key bias is constant over the
  rows of one softmax and cancels; the value bias enters times the sum of the (dropped) weights. Its
  backward makes absorbed queries and attended rows, H times as wide as the tokens, anew instead of
  keeping them.

Dropout draws one (B, H, M, R) mask in `projected` and `absorbed`, so the same random state gives
the same result. `dispatch.choose` picks by measured speed; callers do not know which ran.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lcm_scale.model.dispatch import choose
from lcm_scale.model.products import (
    Adaptable,
    Linear,
    LowRank,
    adapted,
    adapter_gradients,
    affine,
    apply_mask,
    batched,
    dropout,
    keep_mask,
    multiply,
    multiply_into,
    plainly,
    product_dtype,
    project,
)


def _scores(query_BHMK: Tensor, key_BHRK: Tensor, masked_BR: Tensor | None) -> Tensor:
    scores_BHMR = query_BHMK @ key_BHRK.transpose(-1, -2) / math.sqrt(query_BHMK.shape[-1])
    if masked_BR is not None:
        scores_BHMR = scores_BHMR.masked_fill(masked_BR[:, None, None], -math.inf)
    return scores_BHMR


def _by_head(x_BND: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, H, N, K)."""
    return x_BND.unflatten(-1, (heads, -1)).transpose(1, 2)


def _keys_and_values(
    query_BMD: Tensor,
    memory_BRD: Tensor,
    weight: Tensor,
    bias: Tensor,
    heads: int,
    low_rank: LowRank | None = None,
) -> list[Tensor]:
    """Queries (B, H, M, K), keys and values (B, H, R, K)."""
    D = query_BMD.shape[-1]
    q_BMD, kv = project(query_BMD, memory_BRD, weight, bias, D, low_rank)
    assert kv is not None
    return [_by_head(x, heads) for x in (q_BMD, *kv.split(D, dim=-1))]


def projected(
    query_BMD: Tensor,
    memory_BRD: Tensor,
    weight: Tensor,
    bias: Tensor,
    heads: int,
    probability: float,
    masked_BR: Tensor | None = None,
    low_rank: LowRank | None = None,
) -> Tensor:
    """Attention output before the output projection, keys and values formed as published.

    Args:
        weight, bias: packed (3D, D) and (3D,): query, key, value rows, as in nn.MultiheadAttention.
        probability: dropout on the attention weights, 0 outside training.
        masked_BR: true where a memory row takes no part; never a scan's every row.
        low_rank: the adapter of a weight that is `adapted` already.
    Returns: (B, M, D).
    """
    q, k, v = _keys_and_values(query_BMD, memory_BRD, weight, bias, heads, low_rank)
    weights_BHMR = dropout(_scores(q, k, masked_BR).softmax(-1), probability)
    return (weights_BHMR.to(v.dtype) @ v).transpose(1, 2).flatten(2)


def flash(
    query_BMD: Tensor,
    memory_BRD: Tensor,
    weight: Tensor,
    bias: Tensor,
    heads: int,
    probability: float,
    masked_BR: Tensor | None = None,
    low_rank: LowRank | None = None,
) -> Tensor:
    """As `projected`, attending by a fused kernel."""
    q, k, v = _keys_and_values(query_BMD, memory_BRD, weight, bias, heads, low_rank)
    kernel = (
        _flash_attn()
        if q.device.type == "cuda" and q.dtype in (torch.float16, torch.bfloat16)
        else None
    )
    if kernel is not None and masked_BR is None:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return kernel(q, k, v, dropout_p=probability).flatten(2)
    allowed = None if masked_BR is None else ~masked_BR[:, None, None]
    attended_BHMK = F.scaled_dot_product_attention(
        q, k, v, attn_mask=allowed, dropout_p=probability
    )
    return attended_BHMK.transpose(1, 2).flatten(2)


def _flash_attn() -> Any:
    """flash-attn's function, or None where it is not installed or this GPU is older than its
    kernels."""
    if torch.cuda.get_device_capability() < (8, 0):
        return None
    try:
        return importlib.import_module("flash_attn").flash_attn_func
    except ImportError:
        return None


def absorbed(
    query_BMD: Tensor,
    memory_BRD: Tensor,
    weight: Tensor,
    bias: Tensor,
    heads: int,
    probability: float,
    masked_BR: Tensor | None = None,
    low_rank: LowRank | None = None,
) -> Tensor:
    """As `projected`, with W_k absorbed into the queries and W_v applied to the attended rows."""
    dtype = product_dtype(query_BMD)
    query_BMD, memory_BRD = query_BMD.to(dtype), memory_BRD.to(dtype)
    adapter = low_rank or (None, None, None)
    return _Absorbed.apply(
        query_BMD, memory_BRD, weight, bias, heads, probability, masked_BR, *adapter
    )


class _Absorbed(torch.autograd.Function):
    """Keeps queries before and after W_q, the memory and the attention weights; of the latter's
    size, H M R a scan."""

    @staticmethod
    def forward(
        ctx: Any,
        query_BMD: Tensor,
        memory_BRD: Tensor,
        weight: Tensor,
        bias: Tensor,
        heads: int,
        probability: float,
        masked_BR: Tensor | None,
        a: Tensor | None,
        b: Tensor | None,
        adapter_scale: Tensor | None,
    ) -> Tensor:
        (B, M, D), R = query_BMD.shape, memory_BRD.shape[1]
        K = D // heads
        with plainly(query_BMD):
            working, biases = weight.to(query_BMD.dtype), bias.to(query_BMD.dtype)
            q_BMD = affine(query_BMD, working[:D], biases[:D]) / math.sqrt(K)
            scores = batched(_absorb(q_BMD, working, heads), memory_BRD.transpose(1, 2)).view(
                B, heads, M, R
            )
            if masked_BR is not None:
                scores.masked_fill_(masked_BR[:, None, None], -math.inf)
            softmax = scores.softmax(-1)
            weights, kept, ctx.scale = softmax, None, 1.0
            if probability > 0:
                kept, ctx.scale = keep_mask(softmax, probability)
                weights = apply_mask(softmax, kept, ctx.scale)
            rows_BHMD = batched(weights.view(B, heads * M, R), memory_BRD).view(B, heads, M, D)
            context_HND = rows_BHMD.transpose(0, 1).reshape(heads, B * M, D)
            out_BMHK = query_BMD.new_empty(B, M, heads, K)
            w_v = working[2 * D :].view(heads, K, D)
            batched(
                context_HND,
                w_v.transpose(1, 2),
                into=out_BMHK.view(B * M, heads, K).transpose(0, 1),
            )
            # Under dropout a row's weights do not sum to 1.
            out_BMHK += weights.sum(-1).transpose(1, 2).unsqueeze(-1) * biases[2 * D :].view(
                heads, K
            )
            trained = query_BMD if ctx.needs_input_grad[2] or ctx.needs_input_grad[7] else None
            ctx.save_for_backward(
                trained,
                q_BMD,
                memory_BRD,
                softmax,
                kept,
                bias,
                weight if working.dtype == weight.dtype else working,
                a,
                b,
                adapter_scale,
            )
            ctx.heads, ctx.dtype = heads, weight.dtype
            return out_BMHK.view(B, M, D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out_BMD: Tensor) -> Any:
        query_BMD, q_BMD, memory_BRD, softmax, kept, bias, weight, *adapter = ctx.saved_tensors
        trains = ctx.needs_input_grad[2] or ctx.needs_input_grad[7]  # the weight, or its adapter
        (B, M, D), R, H = q_BMD.shape, memory_BRD.shape[1], ctx.heads
        K, N = D // H, B * M
        with plainly(q_BMD):
            b_v, w_k, w_v = (
                bias[2 * D :].to(weight.dtype).view(H, K),
                weight[D : 2 * D],
                weight[2 * D :].view(H, K, D),
            )
            weights = softmax if kept is None else apply_mask(softmax, kept, ctx.scale)
            d_out_BMHK = d_out_BMD.reshape(B, M, H, K)
            d_out_HNK = d_out_BMHK.view(N, H, K).transpose(0, 1)

            # Both products with the memory from the right, and both that make its gradient, are one
            # each: first half: gradient of the attended rows; second half: absorbed queries.
            inner_gradients = (
                ctx.needs_input_grad[1] or trains
            )  # else the way to the queries is all
            sides_BSD = q_BMD.new_empty(B, (1 + inner_gradients) * H * M, D)
            d_rows = sides_BSD[:, : H * M]
            batched(d_out_HNK, w_v, into=d_rows.unflatten(1, (H, M)).transpose(0, 1))
            if inner_gradients:
                _absorb(q_BMD, weight, H, into=sides_BSD[:, H * M :])
            d_weights = batched(d_rows, memory_BRD.transpose(1, 2)).view(B, H, M, R)
            d_weights += (d_out_BMHK * b_v).sum(-1).transpose(1, 2).unsqueeze(-1)
            if kept is not None:
                d_weights = apply_mask(d_weights, kept, ctx.scale)
            d_scores = torch._softmax_backward_data(d_weights, softmax, -1, softmax.dtype)
            weights_BSR = d_scores.view(B, H * M, R)
            if inner_gradients:
                weights_BSR = torch.cat([weights.view(B, H * M, R), weights_BSR], dim=1)
            d_memory = None
            if ctx.needs_input_grad[1]:
                d_memory = batched(weights_BSR.transpose(1, 2), sides_BSD)
            del d_rows, sides_BSD
            products = batched(weights_BSR, memory_BRD).view(B, -1, H, M, D)
            context_HND = (
                products[:, 0].transpose(0, 1).reshape(H, N, D) if inner_gradients else None
            )
            d_absorbed_HND = products[:, -1].transpose(0, 1).reshape(H, N, D)
            del products

            d_q = q_BMD.new_empty(N, H, K)
            batched(d_absorbed_HND, w_k.view(H, K, D).transpose(1, 2), into=d_q.transpose(0, 1))
            d_q_ND = d_q.view(N, D).div_(math.sqrt(K))
            d_query = multiply(d_q_ND, weight[:D]).view(B, M, D)
            if not trains:  # finetuning that leaves the weights alone
                return d_query, d_memory, *[None] * 8
            assert context_HND is not None
            if ctx.needs_input_grad[7]:
                sides = (
                    (d_q_ND.unsqueeze(0), query_BMD.reshape(1, N, D)),
                    (q_BMD.view(N, H, K).transpose(0, 1), d_absorbed_HND),
                    (d_out_HNK, context_HND),
                )
                d_a, d_b = adapter_gradients(sides, *adapter)
                return d_query, d_memory, *[None] * 5, d_a, d_b, None
            # The peak of a step: what is done with goes before the next product comes.
            d_weight = torch.empty(weight.shape, dtype=ctx.dtype, device=weight.device)
            d_bias = torch.zeros(3 * D, dtype=ctx.dtype, device=weight.device)
            batched(d_out_HNK.transpose(1, 2), context_HND, into=d_weight[2 * D :].view(H, K, D))
            del context_HND
            q_HNK = q_BMD.view(N, H, K).transpose(0, 1)
            batched(q_HNK.transpose(1, 2), d_absorbed_HND, into=d_weight[D : 2 * D].view(H, K, D))
            del d_absorbed_HND
            multiply_into(d_weight[:D], d_q_ND.t(), query_BMD.reshape(N, D))
            d_bias[:D] = d_q_ND.sum(0)
            # The key bias cancels: its gradient is 0.
            d_bias[2 * D :] = (
                (weights.sum(-1).transpose(1, 2).unsqueeze(-1) * d_out_BMHK).sum((0, 1)).flatten()
            )
        return d_query, d_memory, d_weight, d_bias, *[None] * 6


def _absorb(q_BMD: Tensor, weight: Tensor, heads: int, into: Tensor | None = None) -> Tensor:
    """Queries times W_k, head by head: (B, M, D) -> (B, H M, D)."""
    B, M, D = q_BMD.shape
    if into is None:
        into = q_BMD.new_empty(B, heads * M, D)
    q_HNK = q_BMD.view(B * M, heads, -1).transpose(0, 1)
    batched(
        q_HNK,
        weight[D : 2 * D].view(heads, -1, D),
        into=into.unflatten(1, (heads, M)).transpose(0, 1),
    )
    return into


ATTEND = {"projected": projected, "flash": flash, "absorbed": absorbed}


class OutputProjection(Linear):
    """The linear map after attending; also of values that are the same for every token but for a
    factor a head."""

    def forward(self, input: Tensor, value_HK: Tensor | None = None) -> Tensor:
        """(B, M, D), or with `value_HK` factors (B, M, H) -> (B, M, D)."""
        if value_HK is None:
            return super().forward(input)
        # Products with one column are slow kernels on CPUs, most of all the backward one in bf16.
        mapped_DH = (self.weight.view(-1, *value_HK.shape) * value_HK).sum(-1)
        if (low_rank := self.low_rank) is not None:
            mapped_rH = (low_rank.a.view(-1, *value_HK.shape) * value_HK).sum(-1)
            with plainly(mapped_DH):  # a sum is rounded once, as of merged weights
                mapped_DH = mapped_DH + low_rank.scale * low_rank.b[0] @ mapped_rH
        return F.linear(input, mapped_DH, self.bias)


class Attention(Adaptable):
    """Multi-head attention with nn.MultiheadAttention's parameters, names and initialisation.

    Its parameters are its own (not a child's), so that ZeRO-3 gathers them when this module is
    called.
    """

    def __init__(
        self, width: int, heads: int, probability: float, formulation: str = "projected"
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = probability
        self.formulation = formulation
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = OutputProjection(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    @property
    def probability(self) -> float:
        return self.dropout if self.training else 0.0

    def in_proj(self, x: Tensor) -> tuple[Tensor, Tensor, LowRank | None]:
        """The packed weight as it counts in products with x, its bias, and the weight's adapter
        where it has one."""
        low_rank = self.low_rank
        if low_rank is None:
            return self.in_proj_weight, self.in_proj_bias, None
        weight = adapted(self.in_proj_weight, low_rank, product_dtype(x))
        return weight, self.in_proj_bias, low_rank

    def forward(
        self, query_BMD: Tensor, memory_BRD: Tensor, masked_BR: Tensor | None = None
    ) -> Tensor:
        """Attend from (B, M, D) to (B, R, D); keys and values come from the same memory."""
        formulation = self.formulation
        if formulation == "auto":
            (B, M, D), R = query_BMD.shape, memory_BRD.shape[1]
            formulation = choose(
                B, M, R, D, self.heads, query_BMD.device.type, product_dtype(query_BMD)
            )
        weight, bias, low_rank = self.in_proj(query_BMD)
        attended = ATTEND[formulation](
            query_BMD,
            memory_BRD,
            weight,
            bias,
            self.heads,
            self.probability,
            masked_BR,
            low_rank,
        )
        return self.out_proj(attended)

    def maps(
        self, query_BMD: Tensor, memory_BRD: Tensor, masked_BR: Tensor | None = None
    ) -> Tensor:
        """The attention weights (B, H, M, R) without dropout, by `projected` whatever runs."""
        weight, bias, _ = self.in_proj(query_BMD)
        q, k, _ = _keys_and_values(query_BMD, memory_BRD, weight, bias, self.heads)
        return _scores(q, k, masked_BR).softmax(-1)


class SelfAttention(Attention):
    """Attention among the tokens: queries and keys carry the positions, values do not (DETR)."""

    def forward(  # type: ignore[override]
        self, state_BMD: Tensor | None, position_MD: Tensor, scans: int = 1
    ) -> Tensor:
        """state (B, M, D), position (M, D) -> (B, M, D). None: the zero state of `scans` scans, see
        `of_zero_state`."""
        if state_BMD is None:
            return self.of_zero_state(position_MD, scans)
        D = state_BMD.shape[-1]
        weight, bias, low_rank = self.in_proj(state_BMD)
        qk, v_BMD = project(state_BMD + position_MD, state_BMD, weight, bias, 2 * D, low_rank)
        assert v_BMD is not None
        q, k, v = (_by_head(x, self.heads) for x in (*qk.split(D, dim=-1), v_BMD))
        weights = dropout(_scores(q, k, None).softmax(-1), self.probability)
        return self.out_proj((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))

    def of_zero_state(self, position_MD: Tensor, scans: int) -> Tensor:
        """`forward` of a state of zeros, as the first layer's is: every value is b_v, so attending
        scales it.

        Called through `forward`, at which ZeRO-3 gathers this module's weights.

        Without dropout that is one constant for all tokens and scans, returned as (1, 1, D). With
        it, a factor a scan, token and head remains, the sum of the dropped weights: (B, M, D).
        """
        (M, D), H = position_MD.shape, self.heads
        value_HK = self.in_proj_bias[2 * D :].view(H, -1)
        if not self.probability:
            return self.out_proj(position_MD.new_ones(1, 1, H), value_HK)
        with plainly(
            position_MD
        ):  # of so few rows, a cast of the weight costs more than the product
            weight, bias, low_rank = self.in_proj(position_MD)
            qk, _ = project(position_MD, None, weight, bias, 2 * D, low_rank)
            q, k = (_by_head(x.unsqueeze(0), H) for x in qk.split(D, dim=-1))
            weights_HMM = _scores(q, k, None).softmax(-1)
        weights_BHMM = dropout(weights_HMM.expand(scans, H, M, M), self.probability)
        return self.out_proj(weights_BHMM.sum(-1).transpose(1, 2), value_HK)
