"""The Large Connectome Model (arXiv 2510.18910), readable top to bottom.

- one memory token a region: its row of the FC matrix through Linear, batch norm and LeakyReLU;
- one learnable token a *category* (class, sex, age): the decoder's query positions, its state
starts at zero;
- DETR's post-norm decoder layer: self-attention among tokens, cross-attention to the FC rows, FFN;
- no mask: every token sees every token and every row;
- every layer's output goes through one shared final norm and one shared Linear(D -> 1): a token's
  scalar is its category's logit (or, for age, the prediction), and all L layers' logits come out;
- tokens are kept one parameter a target, so that a phase can leave whole targets out and nothing
moves them meanwhile;
- ours and off by default: dropout on the input, a linear branch from the edges (`edge_branch`), and
  people memory, whose answer joins the decoder's outside of this forward (`model.people`).

Legend: B scans, R regions, D width, M active tokens, L layers, E edges. Neither Lightning nor disk
is known here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lcm_scale.model.attention import Attention, SelfAttention
from lcm_scale.model.batchnorm import MaskedBatchNorm
from lcm_scale.model.dropout import Dropout
from lcm_scale.model.people import PeopleMemory
from lcm_scale.model.presets import LCMConfig
from lcm_scale.model.products import Linear
from lcm_scale.model.triangle import expand, upper


class _NoGradient(torch.autograd.Function):
    """y as it is; a bias that is in it gets a gradient of zeros, not none: absent ones hang DDP."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor) -> Tensor:
        ctx.blank = bias.new_zeros(bias.shape)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor, Tensor]:
        return d_y, ctx.blank


class LinearBeforeNorm(Linear):
    """A linear map into a batch norm, which takes its bias away again in training.

    The bias's gradient there is zero but for rounding, and Adam turns that rounding into steps of
    its own size, in other directions at every world size. Evaluation sees them, since the norm's
    running mean lags behind: validation losses differed by .5 % where training losses agreed to
    3e-6. So the gradient is set to the zero that it is.
    """

    def forward(
        self,
        input: Tensor,
        norm: MaskedBatchNorm | None = None,
        valid_B: Tensor | None = None,
        slope: float = 1.0,
    ) -> Tensor:
        """The map; with `norm` both in one, which ZeRO-3 gathers on the way."""
        if norm is not None:
            return norm.after(input, self.weight, self.bias, valid_B, slope)
        if not self.training:
            return super().forward(input)
        return _NoGradient.apply(self.affine(input, self.bias.detach()), self.bias)


class FCEmbedding(nn.Module):
    """FC rows to memory tokens: Linear(R -> D), batch norm over all rows, LeakyReLU(0.01)."""

    def __init__(self, config: LCMConfig) -> None:
        super().__init__()
        self.linear = LinearBeforeNorm(config.n_regions, config.width)
        self.norm = MaskedBatchNorm(config.width)
        self.dropout = Dropout(config.input_dropout)

    def forward(self, fc_BRR: Tensor, valid_B: Tensor | None) -> Tensor:
        fc_BRR = self.dropout(fc_BRR)
        return self.norm(fc_BRR, valid_B, slope=0.01, linear=self.linear)


class PerTarget(nn.Module):
    """A table with one row a token, kept as one parameter a target; called with the active targets'
    numbers."""

    def __init__(self, target_tokens: Sequence[int], width: int) -> None:
        super().__init__()
        self.target_tokens = tuple(target_tokens)
        for number, tokens in enumerate(target_tokens):
            self.register_parameter(f"target_{number}", nn.Parameter(torch.randn(tokens, width)))

    def forward(self, active: Sequence[int]) -> Tensor:
        """(M, width): the rows of the active targets, in vocabulary order."""
        return torch.cat([self.get_parameter(f"target_{number}") for number in active])


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, FFN; each followed by dropout, residual and LayerNorm
    (post-norm, as DETR)."""

    def __init__(self, config: LCMConfig) -> None:
        super().__init__()
        D = config.width
        self.self_attention = SelfAttention(D, config.heads, config.dropout)
        self.cross_attention = Attention(D, config.heads, config.dropout, config.attention)
        self.linear1 = Linear(D, config.ffn)
        self.linear2 = Linear(config.ffn, D)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(D), nn.LayerNorm(D), nn.LayerNorm(D)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        state_BMD: Tensor | None,
        position_MD: Tensor,
        memory_BRD: Tensor,
        masked_BR: Tensor | None = None,
    ) -> Tensor:
        """State (B, M, D) to the next; None: the zeros that the first layer starts from."""
        if state_BMD is None:
            B, (M, D) = len(memory_BRD), position_MD.shape
            attended = self.self_attention(None, position_MD, B).expand(B, M, D)
            state_BMD = self.norm1(self.dropout(attended))
        else:
            state_BMD = self.norm1(
                state_BMD + self.dropout(self.self_attention(state_BMD, position_MD))
            )
        attended = self.cross_attention(state_BMD + position_MD, memory_BRD, masked_BR)
        state_BMD = self.norm2(state_BMD + self.dropout(attended))
        hidden = self.dropout(F.relu(self.linear1(state_BMD)))
        return self.norm3(state_BMD + self.dropout(self.linear2(hidden)))


class EdgeBranch(nn.Module):
    """Ours, not LCM: a linear map from centred, scaled edges to the tokens' logits, zero at the
    start.

    A linear model on FC is the strongest simple baseline; beside the decoder it leaves the decoder
    what is not linear. `centre` and `scale` are set from training scans only.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, config: LCMConfig) -> None:
        super().__init__()
        edges = config.n_regions * (config.n_regions - 1) // 2
        self.register_buffer("centre", torch.zeros(edges))
        self.register_buffer("scale", torch.ones(edges))
        self.dropout = Dropout(config.edge_dropout)
        self.table = PerTarget(config.target_tokens, edges)
        for weight in self.table.parameters():
            nn.init.zeros_(weight)

    def forward(self, fc_BRR: Tensor, active: Sequence[int]) -> Tensor:
        """(B, R, R) -> (B, M)."""
        edges_BE = (upper(fc_BRR) - self.centre) / self.scale
        return F.linear(self.dropout(edges_BE), self.table(active)) / math.sqrt(edges_BE.shape[1])


class LCM(nn.Module):
    """The model. `config.target_tokens` holds the number of tokens of each target in vocabulary
    order."""

    def __init__(self, config: LCMConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = FCEmbedding(config)
        self.tokens = PerTarget(config.target_tokens, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.readout = Linear(config.width, 1)
        self.edge_branch = EdgeBranch(config) if config.edge_branch else None
        self.people = PeopleMemory.of(config) if config.people_memory else None
        self.checkpointing = (
            False  # a layer keeps its input alone in training and runs again in backward
        )
        if config.init == "reference":
            # The published code makes its layers as deep copies of one: they start identical.
            first = self.layers[0].state_dict()
            for layer in self.layers[1:]:
                layer.load_state_dict(copy.deepcopy(first))

    def forward(
        self, fc_BRR: Tensor, active: Sequence[int] | None = None, valid_B: Tensor | None = None
    ) -> Tensor:
        """Logits of the active tokens at every layer.

        Args:
            fc_BRR: (B, R, R) connectivity.
            active: numbers of the active targets, ascending; None: all.
            valid_B: (B,) 1 for real scans, 0 for padding, which touches no statistic.
        Returns: (L, B, M).
        """
        if active is None:
            active = range(len(self.config.target_tokens))
        memory_BRD = self.embedding(fc_BRR, valid_B)
        position_MD = self.tokens(active)
        # A row of zeros is a constant or missing region. A scan of nothing else is padding: it
        # attends to something.
        masked_BR = (fc_BRR == 0).all(-1) if self.config.mask_constant else None
        if masked_BR is not None:
            masked_BR = masked_BR & ~masked_BR.all(-1, keepdim=True)
        state = None
        logits = []
        for layer in self.layers:
            inputs = (state, position_MD, memory_BRD, masked_BR)
            if self.checkpointing and self.training:
                state = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                state = layer(*inputs)
            logits.append(self.readout(self.norm(state)).squeeze(-1))
        logits_LBM = torch.stack(logits)
        if self.edge_branch is not None:
            logits_LBM = logits_LBM + self.edge_branch(fc_BRR, active)
        return logits_LBM


def model_input(edges_BE: Tensor, edges: str, n_regions: int) -> Tensor:
    """Stored triangles (B, E) to the matrices (B, R, R) that the model sees.

    Args:
        edges: ``raw`` correlations, or their ``fisher_z``.
    """
    if edges == "fisher_z":
        # fp16 rounds a correlation of .9998 to 1, whose transform is infinite.
        edges_BE = edges_BE.float().clamp(-0.9995, 0.9995).atanh()
    return expand(edges_BE, n_regions)
