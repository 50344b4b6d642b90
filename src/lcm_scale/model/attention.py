"""Multi-head attention of BEI tokens to FC rows, in exact formulations of one function.

Legend: B scans, M tokens, R regions (memory rows), D width, H heads, K = D / H, N = B M.

- `projected` (as published; the oracle) projects all R memory rows to keys and values.
- `flash` does the same and attends by flash-attn where it is installed and can, else by torch's
  fused kernel. Exact without dropout; its dropout masks are its own, right in distribution.
- `absorbed` (absorbed.py): M is far smaller than R, so it projects the *queries* instead; keys and
  values are never formed.

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

from lcm_scale.model.absorbed import absorbed
from lcm_scale.model.dispatch import choose
from lcm_scale.model.dropout import dropout
from lcm_scale.model.products import (
    Adaptable,
    Linear,
    LowRank,
    adapted,
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
