"""The published model written plainly with `nn.MultiheadAttention`, as the side that ours is
measured against.

Ours, written from the facts in the paper and the official checkpoint's key names: a backbone `lin`
(Linear, BatchNorm1d, LeakyReLU) that turns FC rows into memory, and DETR's post-norm decoder over
learnable queries. Parameter names are the official files', so that they load into it as they are.
Tensors run sequence first, as in DETR: (rows, scans, width).
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Backbone(nn.Module):
    """The official pair's first file: (B, R, R) -> (B, R, D)."""

    def __init__(self, regions: int = 116, width: int = 2048) -> None:
        super().__init__()
        self.lin = nn.Sequential(nn.Linear(regions, width), nn.BatchNorm1d(width), nn.LeakyReLU())

    def forward(self, fc: Tensor) -> Tensor:
        scans, regions, _ = fc.shape
        return self.lin(fc.reshape(scans * regions, regions)).view(scans, regions, -1)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout=dropout)
        self.linear1, self.linear2 = nn.Linear(width, ffn), nn.Linear(ffn, width)
        self.norm1, self.norm2, self.norm3 = (
            nn.LayerNorm(width),
            nn.LayerNorm(width),
            nn.LayerNorm(width),
        )
        self.dropout, self.dropout1 = nn.Dropout(dropout), nn.Dropout(dropout)
        self.dropout2, self.dropout3 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, state: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        placed = state + position
        state = self.norm1(state + self.dropout1(self.self_attn(placed, placed, value=state)[0]))
        attended = self.multihead_attn(state + position, memory, value=memory)[0]
        state = self.norm2(state + self.dropout2(attended))
        hidden = self.linear2(self.dropout(F.relu(self.linear1(state))))
        return self.norm3(state + self.dropout3(hidden))


class Decoder(nn.Module):
    def __init__(self, layer: Layer, layers: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, state: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        outputs = []
        for layer in self.layers:
            state = layer(state, memory, position)
            outputs.append(self.norm(state))
        return torch.stack(outputs)


class Head(nn.Module):
    """The official pair's second file: memory (B, R, D) -> logits (L, B, M).

    Args:
        tokens: rows of `object_query`: classes, male, female, age.
        finetuned: rows of `finetune_query`, which stand between the classes and the last three; 0:
            none.
    """

    def __init__(
        self,
        tokens: int,
        layers: int = 4,
        width: int = 2048,
        heads: int = 8,
        ffn: int = 768,
        dropout: float = 0.1,
        finetuned: int = 0,
    ) -> None:
        super().__init__()
        self.object_query = nn.Embedding(tokens, width)
        self.decoder = Decoder(Layer(width, heads, ffn, dropout), layers, width)
        self.class_embed = nn.Linear(width, 1)
        self.sex_embed = nn.Linear(width, 1)  # in the file, never used
        self.age_embed = nn.Linear(width, 1)  # the same
        if finetuned:
            self.finetune_query = nn.Embedding(finetuned, width)
        self.finetuned = finetuned

    def queries(self) -> Tensor:
        weight = self.object_query.weight
        if not self.finetuned:
            return weight
        return torch.cat([weight[:-3], self.finetune_query.weight, weight[-3:]])

    def forward(self, memory: Tensor) -> Tensor:
        position = self.queries().unsqueeze(1).repeat(1, len(memory), 1)
        # Contiguous, in the published model's favour: of a transposed memory torch makes 116 small
        # products without autograd.
        outputs = self.decoder(
            torch.zeros_like(position), memory.transpose(0, 1).contiguous(), position
        )
        return self.class_embed(outputs).squeeze(-1).transpose(1, 2)


class OfficialModel(nn.Module):
    """Both halves."""

    def __init__(
        self,
        tokens: int,
        layers: int = 4,
        regions: int = 116,
        width: int = 2048,
        heads: int = 8,
        ffn: int = 768,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(regions, width)
        self.head = Head(tokens, layers, width, heads, ffn, dropout)

    def forward(self, fc: Tensor) -> Tensor:
        return self.head(self.backbone(fc))
