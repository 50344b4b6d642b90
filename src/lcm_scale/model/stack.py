"""Several LCMs of one shape as one: parameters stacked, products batched over the models.

- in: models of one `LCMConfig`; out: each one's logits, equal to its own forward but for rounding;
- a model's parameters and buffers become slices of the stack's: whatever reads or writes a model
  (validation, a checkpoint, its optimiser) reads or writes what the stack computes with;
- a step of G models launches as many kernels as one, G times as large: what is saved is the time
  between kernels, which is all of a small model's on a GPU;
- on CPUs a model's dropout masks are those that it draws alone, from a generator of its own. On
  GPUs all models' are drawn at once, right in distribution.

Legend: G models, B scans a model, R regions, D width, M active tokens, H heads, K = D / H, L
layers, N rows, I inputs, O outputs, E edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcm_scale.model.batchnorm import Normalise
from lcm_scale.model.dispatch import choose
from lcm_scale.model.dropout import Dropped, keep_mask
from lcm_scale.model.lcm import LCM
from lcm_scale.model.products import product_dtype
from lcm_scale.model.stack_memory import Memory
from lcm_scale.model.triangle import upper

Generators = Sequence[torch.Generator] | None
Drop = Callable[[Tensor, float], Tensor]


class LCMStack:
    """Models that are trained together.

    Attributes:
        config: of each model.
        weights: name -> parameters (G, ...), leaves of autograd.
        buffers: name -> (G, ...).
        training: whether dropout and batch norm behave as in training.
    """

    def __init__(self, models: Sequence[LCM]) -> None:
        self.config = models[0].config
        if any(model.config != self.config for model in models):
            raise ValueError("a stack's models are of one shape")
        self.size, self.training = len(models), True
        self.weights: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        self._owners: dict[str, list[nn.Parameter]] = {}
        for name, parameter in models[0].named_parameters():
            parameters = [model.get_parameter(name) for model in models]
            stack = torch.stack([each.detach() for each in parameters])
            for each, piece in zip(parameters, stack, strict=True):
                each.data = piece
            self.weights[name] = stack.requires_grad_(parameter.requires_grad)
            self._owners[name] = parameters
        for name, _ in models[0].named_buffers():
            buffers = [model.get_buffer(name) for model in models]
            stack = self.buffers[name] = torch.stack(buffers)
            for buffer, piece in zip(buffers, stack, strict=True):
                buffer.set_(piece)

    def logits(
        self,
        fc_GBRR: Tensor,
        active: Sequence[int] | None = None,
        valid_GB: Tensor | None = None,
        generators: Generators = None,
    ) -> Tensor:
        """As `LCM.forward`, of every model.

        Args:
            active: numbers of the active targets, ascending; None: all.
            valid_GB: 1 for real scans, 0 for padding. A model all of whose scans are padding is not
                touched: its batch norm tracks nothing.
            generators: of the models' dropout masks; None: torch's own draws those of all.
        Returns: (L, G, B, M).
        """
        config = self.config
        if active is None:
            active = range(len(config.target_tokens))
        drop = _dropout(generators) if self.training else _nothing
        masked_GBR = (fc_GBRR == 0).all(-1) if config.mask_constant else None
        if masked_GBR is not None:
            masked_GBR = masked_GBR & ~masked_GBR.all(-1, keepdim=True)
        memory = Memory(self._embedding(drop(fc_GBRR, config.input_dropout), valid_GB))
        position_GMD = self._table("tokens", active)
        state_GBMD: Tensor | None = None
        states = []
        for number in range(config.layers):
            layer = _Layer(self, f"layers.{number}", drop)
            state_GBMD = layer.forward(state_GBMD, position_GMD, memory, masked_GBR)
            states.append(state_GBMD)
        # The shared norm and readout see the layers' states at once.
        final = self.norm(torch.stack(states, dim=1), "norm")
        logits_GLBM = self.linear(final, "readout").squeeze(-1)
        if config.edge_branch:
            logits_GLBM = logits_GLBM + self._edge_branch(fc_GBRR, active, drop).unsqueeze(1)
        return logits_GLBM.transpose(0, 1)

    def hand_out_gradients(self) -> None:
        """Give each model's parameters their slices of the gradients; the stack keeps none."""
        for name, weight in self.weights.items():
            gradients = [None] * self.size if weight.grad is None else weight.grad.unbind()
            for parameter, gradient in zip(self._owners[name], gradients, strict=True):
                parameter.grad = gradient
            weight.grad = None

    def linear(self, x: Tensor, name: str) -> Tensor:
        """Each model's map over the last dimension of (G, ..., I)."""
        return affine(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, x: Tensor, name: str) -> Tensor:
        """Each model's LayerNorm over the last dimension of (G, ..., D)."""
        D = x.shape[-1]
        shape = (self.size, *[1] * (x.ndim - 2), D)
        weight, bias = (self.weights[f"{name}.{part}"].view(shape) for part in ("weight", "bias"))
        return torch.addcmul(bias, F.layer_norm(x, (D,)), weight)

    def _embedding(self, fc_GBRR: Tensor, valid_GB: Tensor | None) -> Tensor:
        """(G, B, R, R) to memory (G, B, R, D), as `FCEmbedding`."""
        names = [f"embedding.norm.{part}" for part in ("running_mean", "running_var")]
        mean_GD, variance_GD = (self.buffers[name] for name in names)
        weight, bias = (self.weights[f"embedding.norm.{part}"] for part in ("weight", "bias"))
        G, B, R, _ = fc_GBRR.shape
        rows_GNR = fc_GBRR.flatten(1, 2)

        # Batch norm takes the bias away again: in training its gradient is the zero it is.
        offset = self.weights["embedding.linear.bias"]
        offset = offset.detach() if self.training else offset
        x_GND = affine(rows_GNR, self.weights["embedding.linear.weight"], offset)
        if not self.training:
            scale = weight * torch.rsqrt(variance_GD + EPS)
            shift = bias - mean_GD * scale
            shift, scale = (each.to(x_GND.dtype).unsqueeze(1) for each in (shift, scale))
            return F.leaky_relu(torch.addcmul(shift, x_GND, scale), SLOPE).unflatten(1, (B, R))
        if valid_GB is None:
            valid_GB = x_GND.new_ones(G, B)
        with torch.autocast(x_GND.device.type, enabled=False):
            y, mean, variance, count = Normalise.apply(
                x_GND, weight, bias, valid_GB.repeat_interleave(R, 1), EPS, SLOPE
            )
        self._track(mean, variance, count, valid_GB)
        return y.unflatten(1, (B, R))

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor, valid_GB: Tensor) -> None:
        """As `MaskedBatchNorm` does it, of the models that have scans."""
        name = "embedding.norm"
        takes_G1 = (valid_GB.amax(1, keepdim=True) > 0).to(mean.dtype)
        self.buffers[f"{name}.num_batches_tracked"] += takes_G1.squeeze(1).long()
        unbiased = variance * (count / (count - 1).clamp(min=1.0))
        for part, now in (("running_mean", mean), ("running_var", unbiased)):
            held = self.buffers[f"{name}.{part}"]
            held.addcmul_(now - held, takes_G1, value=MOMENTUM)

    def _table(self, name: str, active: Sequence[int]) -> Tensor:
        """(G, M, ...): rows of the active targets, as `PerTarget`."""
        return torch.cat([self.weights[f"{name}.target_{number}"] for number in active], dim=1)

    def _edge_branch(self, fc_GBRR: Tensor, active: Sequence[int], drop: Drop) -> Tensor:
        """(G, B, R, R) -> (G, B, M), as `EdgeBranch`."""
        centre, scale = (
            self.buffers[f"edge_branch.{part}"].unsqueeze(1) for part in ("centre", "scale")
        )
        edges_GBE = upper(fc_GBRR.flatten(0, 1)).unflatten(0, fc_GBRR.shape[:2])
        edges_GBE = (edges_GBE - centre) / scale
        table_GME = self._table("edge_branch.table", active)
        product = drop(edges_GBE, self.config.edge_dropout) @ table_GME.transpose(1, 2)
        return product / math.sqrt(edges_GBE.shape[2])


EPS, MOMENTUM, SLOPE = 1e-5, 0.1, 0.01  # as `MaskedBatchNorm` and `FCEmbedding` have them


class _Layer:
    """One `DecoderLayer` of every model."""

    def __init__(self, stack: LCMStack, name: str, drop: Drop) -> None:
        self.stack, self.name, self.drop = stack, name, drop
        self.heads, self.p = stack.config.heads, stack.config.dropout

    def forward(
        self,
        state_GBMD: Tensor | None,
        position_GMD: Tensor,
        memory: Memory,
        masked_GBR: Tensor | None,
    ) -> Tensor:
        position_G1MD, B = position_GMD.unsqueeze(1), memory.rows_GBRD.shape[1]
        attended = self._self_attention(state_GBMD, position_G1MD, B)
        if state_GBMD is None:
            G, (M, D) = self.stack.size, position_GMD.shape[1:]
            state = self._norm(1, self._drop(attended.expand(G, B, M, D)))
        else:
            state = self._norm(1, state_GBMD + self._drop(attended))
        attended = self._cross_attention(state + position_G1MD, memory, masked_GBR)
        state = self._norm(2, state + self._drop(attended))
        hidden = self._drop(F.relu(self.stack.linear(state, f"{self.name}.linear1")))
        return self._norm(3, state + self._drop(self.stack.linear(hidden, f"{self.name}.linear2")))

    def _drop(self, x: Tensor) -> Tensor:
        return self.drop(x, self.p)

    def _norm(self, number: int, x: Tensor) -> Tensor:
        return self.stack.norm(x, f"{self.name}.norm{number}")

    def _projections(self, attention: str, first: int) -> list[tuple[Tensor, Tensor]]:
        """The packed input weights and biases in two parts: `first` matrices (D, D), and the
        rest."""
        D = self.stack.config.width
        packed = [
            self.stack.weights[f"{self.name}.{attention}.in_proj_{part}"]
            for part in ("weight", "bias")
        ]
        weights, biases = (each.split([first * D, (3 - first) * D], dim=1) for each in packed)
        return list(zip(weights, biases, strict=True))

    def _by_head(self, x: Tensor) -> Tensor:
        """(G, B, N, D) -> (G B, H, N, K)."""
        return x.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _joined(self, x: Tensor) -> Tensor:
        """(G B, H, N, K) -> (G, B, N, D)."""
        return x.transpose(1, 2).flatten(2).unflatten(0, (self.stack.size, -1))

    def _self_attention(self, state: Tensor | None, position_G1MD: Tensor, scans: int) -> Tensor:
        """(G, B, M, D) among the tokens. Of None, the state of zeros, as `SelfAttention` has it."""
        name = "self_attention"
        if state is None:
            return self._self_attention_of_zeros(position_G1MD, scans)
        (w_qk, b_qk), (w_v, b_v) = self._projections(name, 2)
        q, k = affine(state + position_G1MD, w_qk, b_qk).chunk(2, dim=-1)
        v = affine(state, w_v, b_v)
        q, k, v = (self._by_head(x) for x in (q, k, v))
        weights = self._weights(q, k, None)
        return self.stack.linear(
            self._joined(weights.to(v.dtype) @ v), f"{self.name}.{name}.out_proj"
        )

    def _self_attention_of_zeros(self, position_G1MD: Tensor, scans: int) -> Tensor:
        """Every value is b_v, so attending scales it: (G, 1, 1, D); with dropout (G, B, M,
        D)."""
        G, M = self.stack.size, position_G1MD.shape[2]
        (w_qk, b_qk), (_, b_v) = self._projections("self_attention", 2)
        out = f"{self.name}.self_attention.out_proj"
        bias, weight = self.stack.weights[f"{out}.bias"], self.stack.weights[f"{out}.weight"]
        value_GHK = b_v.view(G, self.heads, -1)
        mapped_GDH = (weight.unflatten(-1, value_GHK.shape[1:]) * value_GHK.unsqueeze(1)).sum(-1)
        if not self.p or not self.stack.training:
            return (mapped_GDH.sum(-1) + bias)[:, None, None]
        with torch.autocast(position_G1MD.device.type, enabled=False):
            q, k = affine(position_G1MD, w_qk, b_qk).chunk(2, dim=-1)
            weights = _scores(self._by_head(q), self._by_head(k)).softmax(-1)
        weights = weights.unsqueeze(1).expand(G, scans, self.heads, M, M)
        return affine(self._drop(weights).sum(-1).transpose(2, 3), mapped_GDH, bias)

    def _weights(self, q: Tensor, k: Tensor, masked_GBR: Tensor | None) -> Tensor:
        """Dropped attention weights (G B, H, M, R)."""
        scores = _scores(q, k)
        if masked_GBR is not None:
            scores = scores.masked_fill(masked_GBR.flatten(0, 1)[:, None, None], -math.inf)
        weights = scores.softmax(-1).unflatten(0, (self.stack.size, -1))
        return self._drop(weights).flatten(0, 1)

    def _cross_attention(
        self, query_GBMD: Tensor, memory: Memory, masked_GBR: Tensor | None
    ) -> Tensor:
        config, (_, B, M, D) = self.stack.config, query_GBMD.shape
        formulation = config.attention
        if formulation == "auto":
            device, dtype = query_GBMD.device.type, product_dtype(query_GBMD)
            formulation = choose(B, M, memory.rows_GBRD.shape[2], D, self.heads, device, dtype)
        if formulation == "absorbed":
            attended = self._absorbed(query_GBMD, memory, masked_GBR)
        else:
            fused = formulation == "flash"
            attended = self._projected(query_GBMD, memory.rows_GBRD, masked_GBR, fused)
        return self.stack.linear(attended, f"{self.name}.cross_attention.out_proj")

    def _projected(
        self, query_GBMD: Tensor, memory_GBRD: Tensor, masked_GBR: Tensor | None, fused: bool
    ) -> Tensor:
        """As `attention.projected`, or with torch's fused kernel as `attention.flash`."""
        (w_q, b_q), (w_kv, b_kv) = self._projections("cross_attention", 1)
        k, v = (self._by_head(x) for x in affine(memory_GBRD, w_kv, b_kv).chunk(2, dim=-1))
        q = self._by_head(affine(query_GBMD, w_q, b_q))
        if fused:
            allowed = None if masked_GBR is None else ~masked_GBR.flatten(0, 1)[:, None, None]
            p = self.p if self.stack.training else 0.0
            return self._joined(F.scaled_dot_product_attention(q, k, v, allowed, p))
        return self._joined(self._weights(q, k, masked_GBR).to(v.dtype) @ v)

    def _absorbed(self, query_GBMD: Tensor, memory: Memory, masked_GBR: Tensor | None) -> Tensor:
        """As `attention.absorbed`. Autograd keeps absorbed queries and attended rows, H times as
        wide as the tokens: making them anew would cost launches, which a stack is there to save."""
        G, B, M, D = query_GBMD.shape
        H, K = self.heads, D // self.heads
        (w_q, b_q), (w_kv, b_kv) = self._projections("cross_attention", 1)
        w_k, w_v = (w.reshape(G * H, K, D) for w in w_kv.chunk(2, dim=1))
        q_GXHK = affine(query_GBMD, w_q, b_q).view(G, B * M, H, K) / math.sqrt(K)
        queries = q_GXHK.transpose(1, 2).reshape(G * H, B * M, K) @ w_k
        sides = queries.view(G, H, B, M, D).transpose(1, 2).reshape(G * B, H * M, D)
        scores = memory.scores(sides).view(G, B, H, M, -1)
        if masked_GBR is not None:
            scores = scores.masked_fill(masked_GBR[:, :, None, None], -math.inf)
        weights = self._drop(scores.softmax(-1))
        rows = memory.attended(weights.to(sides.dtype).view(G * B, H * M, -1))
        rows = rows.view(G, B, H, M, D).transpose(1, 2).reshape(G * H, B * M, D)
        out = (rows @ w_v.transpose(1, 2)).view(G, H, B, M, K).permute(0, 2, 3, 1, 4)
        # Under dropout a row's weights do not sum to 1.
        shares = weights.sum(-1).transpose(2, 3).unsqueeze(-1)
        value = b_kv[:, D:].view(G, 1, 1, H, K)
        return (out + (shares * value).to(out.dtype)).flatten(-2)


def affine(x: Tensor, weight_GOI: Tensor, bias_GO: Tensor) -> Tensor:
    """x @ weight.T + bias of every model: (G, ..., I) -> (G, ..., O), one product."""
    y = torch.baddbmm(bias_GO.unsqueeze(1), x.flatten(1, -2), weight_GOI.transpose(1, 2))
    return y.view(*x.shape[:-1], -1)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])


def _nothing(x: Tensor, probability: float) -> Tensor:
    return x


def _dropout(generators: Generators) -> Drop:
    """Of (G, ...) tensors: each model's mask from its own generator, or all from torch's."""

    def drop(x: Tensor, probability: float) -> Tensor:
        if not probability:
            return x
        if generators is None:
            return torch.native_dropout(x, probability, True)[0]
        kept = torch.empty(x.shape, dtype=torch.bool)
        for place, piece, generator in zip(kept, x, generators, strict=True):
            own, scale = keep_mask(piece, probability, generator)
            place.copy_(own)
        return Dropped.apply(x, kept, scale)

    return drop
