"""Attention of few tokens to many rows, without keys and values.

Legend: B scans, M tokens, R regions (memory rows), D width, H heads, K = D / H, N = B M.

M is far smaller than R, so the *queries* are projected instead: W_k is absorbed into q, W_v is
applied after attending. The key bias is constant over the rows of one softmax and cancels; the
value bias enters times the sum of the (dropped) weights. Backward makes absorbed queries and
attended rows, H times as wide as the tokens, anew instead of keeping them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lcm_scale.model.dropout import apply_mask, dropped
from lcm_scale.model.products import (
    LowRank,
    adapter_gradients,
    affine,
    batched,
    multiply,
    multiply_into,
    plainly,
    product_dtype,
)


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
                weights, kept, ctx.scale = dropped(softmax, probability)
            rows_BHMD = batched(weights.view(B, heads * M, R), memory_BRD).view(B, heads, M, D)
            context_HND = rows_BHMD.transpose(0, 1).reshape(heads, B * M, D)
            out_BMHK = query_BMD.new_empty(B, M, heads, K)
            w_v = working[2 * D :].view(heads, K, D)
            batched(
                context_HND,
                w_v.transpose(1, 2),
                into=out_BMHK.view(B * M, heads, K).transpose(0, 1),
            )
            out_BMHK += _shares(weights) * biases[2 * D :].view(heads, K)
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
        wants = ctx.needs_input_grad
        trains = wants[2] or wants[7]  # the weight, or its adapter
        (B, M, D), R, H = q_BMD.shape, memory_BRD.shape[1], ctx.heads
        K, N = D // H, B * M
        with plainly(q_BMD):
            w_k, w_v = (part.view(H, K, D) for part in weight[D:].split(D))
            weights = softmax if kept is None else apply_mask(softmax, kept, ctx.scale)
            d_out_BMHK = d_out_BMD.reshape(B, M, H, K)
            d_out_HNK = d_out_BMHK.view(N, H, K).transpose(0, 1)

            # Both products with the memory from the right, and both that make its gradient, are one
            # each: first half: gradient of the attended rows; second half: absorbed queries.
            inner_gradients = wants[1] or trains  # else the way to queries is all
            sides_BSD = q_BMD.new_empty(B, (1 + inner_gradients) * H * M, D)
            d_rows = sides_BSD[:, : H * M]
            batched(d_out_HNK, w_v, into=d_rows.unflatten(1, (H, M)).transpose(0, 1))
            if inner_gradients:
                _absorb(q_BMD, weight, H, into=sides_BSD[:, H * M :])
            d_weights = batched(d_rows, memory_BRD.transpose(1, 2)).view(B, H, M, R)
            d_weights += _times_value_bias(d_out_BMHK, bias.to(weight.dtype))
            weights_BSR = _score_gradients(d_weights, softmax, kept, ctx.scale).flatten(1, 2)
            if inner_gradients:
                weights_BSR = torch.cat([weights.view(B, H * M, R), weights_BSR], dim=1)
            d_memory = batched(weights_BSR.transpose(1, 2), sides_BSD) if wants[1] else None
            del d_rows, sides_BSD
            products = batched(weights_BSR, memory_BRD).view(B, -1, H, M, D)
            by_head = [each.transpose(0, 1).reshape(H, N, D) for each in products.unbind(1)]
            del products
            d_absorbed_HND = by_head.pop()

            d_q = q_BMD.new_empty(N, H, K)
            batched(d_absorbed_HND, w_k.transpose(1, 2), into=d_q.transpose(0, 1))
            d_q_ND = d_q.view(N, D).div_(math.sqrt(K))
            d_query = multiply(d_q_ND, weight[:D]).view(B, M, D)
            if not trains:  # finetuning that leaves the weights alone
                return d_query, d_memory, *[None] * 8
            context_HND = by_head.pop()
            if wants[7]:
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
            d_bias[2 * D :] = (_shares(weights) * d_out_BMHK).sum((0, 1)).flatten()
        return d_query, d_memory, d_weight, d_bias, *[None] * 6


def _shares(weights_BHMR: Tensor) -> Tensor:
    """(B, M, H, 1): the sums of attention weights, which under dropout are not 1."""
    return weights_BHMR.sum(-1).transpose(1, 2).unsqueeze(-1)


def _times_value_bias(d_out_BMHK: Tensor, bias: Tensor) -> Tensor:
    """(B, H, M, 1): what the value bias adds to the gradient of each attention weight."""
    H, K = d_out_BMHK.shape[2:]
    return (d_out_BMHK * bias[-H * K :].view(H, K)).sum(-1).transpose(1, 2).unsqueeze(-1)


def _score_gradients(
    d_weights: Tensor, softmax: Tensor, kept: Tensor | None, scale: float
) -> Tensor:
    """From the gradient of the dropped attention weights to that of the scores, (B, H, M, R)."""
    if kept is not None:
        d_weights = apply_mask(d_weights, kept, scale)
    return torch._softmax_backward_data(d_weights, softmax, -1, softmax.dtype)


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
