"""Multi-head attention of BEI tokens to FC rows, in exact formulations of one function.

Legend: B scans, M tokens, R regions (memory rows), D width, H heads, K = D / H.

`projected` (as published; the oracle) projects all R memory rows to keys and values. M is far smaller than R, so
`absorbed` projects the queries instead: W_k is absorbed into q, W_v is applied after attending, and keys and values are
never formed. The key bias is constant over the rows of one softmax and cancels; the value bias enters times the sum of
the (dropped) weights. Attention dropout draws one (B, H, M, R) mask in both, so the same random state gives the same
result. `choose` picks by arithmetic; callers do not know which ran.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FORMULATIONS = ("projected", "absorbed")


def choose(tokens: int, regions: int, width: int, heads: int) -> str:
    """The formulation with fewer FLOPs: they cross at M* = D R / (D + H R), 80 at the published sizes."""
    return "absorbed" if tokens < width * regions / (width + heads * regions) else "projected"


def _weights(scores_BHMR: Tensor, dropout: float) -> Tensor:
    return F.dropout(scores_BHMR.softmax(-1), dropout, training=dropout > 0)


def projected(
    query_BMD: Tensor, memory_BRD: Tensor, weight: Tensor, bias: Tensor, heads: int, dropout: float
) -> Tensor:
    """Attention output before the output projection, keys and values formed as published.

    Args:
        weight, bias: packed (3D, D) and (3D,): query, key, value rows, as in nn.MultiheadAttention.
        dropout: probability on the attention weights, 0 outside training.
    Returns: (B, M, D).
    """
    (B, M, D), R = query_BMD.shape, memory_BRD.shape[1]
    q = F.linear(query_BMD, weight[:D], bias[:D]).view(B, M, heads, -1).transpose(1, 2)
    kv = F.linear(memory_BRD, weight[D:], bias[D:]).view(B, R, 2, heads, -1).permute(2, 0, 3, 1, 4)
    scores = q @ kv[0].transpose(-1, -2) / math.sqrt(D // heads)
    return (_weights(scores, dropout) @ kv[1]).transpose(1, 2).reshape(B, M, D)


def absorbed(query_BMD: Tensor, memory_BRD: Tensor, weight: Tensor, bias: Tensor, heads: int, dropout: float) -> Tensor:
    """As `projected`, with W_k absorbed into the queries and W_v applied to the attended rows."""
    (B, M, D), R = query_BMD.shape, memory_BRD.shape[1]
    K = D // heads
    w_q, w_k, w_v = weight.chunk(3)
    b_q, _, b_v = bias.chunk(3)
    q = F.linear(query_BMD, w_q, b_q).view(B * M, heads, K).transpose(0, 1) / math.sqrt(K)
    absorbed_HBMD = torch.bmm(q, w_k.view(heads, K, D))
    queries = absorbed_HBMD.view(heads, B, M, D).transpose(0, 1).reshape(B, heads * M, D)
    scores = torch.bmm(queries, memory_BRD.transpose(1, 2)).view(B, heads, M, R)
    attention = _weights(scores, dropout)
    rows_BHMD = torch.bmm(attention.view(B, heads * M, R).to(memory_BRD.dtype), memory_BRD)
    context = rows_BHMD.view(B, heads, M, D).transpose(0, 1).reshape(heads, B * M, D)
    values_HBMK = torch.bmm(context, w_v.view(heads, K, D).transpose(1, 2)).view(heads, B, M, K)
    kept_HBM1 = attention.sum(-1).transpose(0, 1).unsqueeze(-1)
    values_HBMK = values_HBMK + kept_HBM1 * b_v.view(heads, 1, 1, K)
    return values_HBMK.permute(1, 2, 0, 3).reshape(B, M, D)


class Attention(nn.Module):
    """Multi-head attention with nn.MultiheadAttention's parameters, names and initialisation.

    Its parameters are its own (not a child's), so that ZeRO-3 gathers them when this module is called.
    """

    def __init__(self, width: int, heads: int, dropout: float, formulation: str = "projected") -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.formulation = formulation
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query_BMD: Tensor, memory_BRD: Tensor) -> Tensor:
        """Attend from (B, M, D) to (B, R, D); keys and values come from the same memory."""
        formulation = self.formulation
        if formulation == "auto":
            M, D = query_BMD.shape[1:]
            formulation = choose(M, memory_BRD.shape[1], D, self.heads)
        attend = absorbed if formulation == "absorbed" else projected
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(attend(query_BMD, memory_BRD, self.in_proj_weight, self.in_proj_bias, self.heads, dropout))


class SelfAttention(Attention):
    """Attention among the tokens: queries and keys carry the positions, values do not (DETR)."""

    def forward(self, state_BMD: Tensor, position_MD: Tensor) -> Tensor:
        """state (B, M, D), position (M, D) -> (B, M, D)."""
        B, M, D = state_BMD.shape
        placed = state_BMD + position_MD
        weight, bias = self.in_proj_weight, self.in_proj_bias
        qk = F.linear(placed, weight[: 2 * D], bias[: 2 * D]).view(B, M, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        v = F.linear(state_BMD, weight[2 * D :], bias[2 * D :]).view(B, M, self.heads, -1).transpose(1, 2)
        scores = qk[0] @ qk[1].transpose(-1, -2) / math.sqrt(D // self.heads)
        attended = _weights(scores, self.dropout if self.training else 0.0).to(v.dtype) @ v
        return self.out_proj(attended.transpose(1, 2).reshape(B, M, D))
