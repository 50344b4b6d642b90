"""Exact counts: parameters of a model, and matrix-product FLOPs of its forward pass and training
step.

A multiply-add is two FLOPs. Only matrix products count, as in torch's FlopCounterMode, which a test
holds this against; norms, softmax and activations are below one per cent. Counted is what runs:
`absorbed` makes some products again in backward, and the first layer's self-attention, whose state
is zero, is done once a batch and not once a scan.
Legend: M tokens, R regions, D width, H heads, F ffn, L layers.
"""

from __future__ import annotations

import torch

from lcm_scale.config import LoRAConfig, Trains
from lcm_scale.config.run import FORMULATIONS
from lcm_scale.model.batchnorm import from_inputs
from lcm_scale.model.dispatch import choose
from lcm_scale.model.presets import LCMConfig


def formulation_of(
    config: LCMConfig,
    tokens: int,
    batch: int = 16,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> str:
    """The cross-attention that runs: the recipe's, or for `auto` the one that `dispatch.choose`
    takes."""
    if config.attention != "auto":
        return config.attention
    return choose(batch, tokens, config.n_regions, config.width, config.heads, device, dtype)


def parameter_count(config: LCMConfig) -> int:
    """All parameters; at the published width and R = 116: 243,712 + L x 36,731,648 + M x 2,048 +
    4,096 + 2,049."""
    R, D, F = config.n_regions, config.width, config.ffn
    embedding = R * D + D + 2 * D  # Linear, batch norm's scale and shift
    attention = 4 * D * D + 4 * D
    ffn = 2 * D * F + F + D
    layer = 2 * attention + ffn + 3 * 2 * D  # self and cross, three LayerNorms
    return embedding + config.layers * layer + token_parameters(config)


def token_parameters(config: LCMConfig) -> int:
    """Those that ``optim.trainable=tokens`` trains: token table, final norm, readout, linear
    branch."""
    D, R = config.width, config.n_regions
    edges = R * (R - 1) // 2 * config.n_tokens if config.edge_branch else 0
    return config.n_tokens * D + 2 * D + (D + 1) + edges


def adapts(trainable: Trains, part: str) -> bool:
    """Whether adapters stand on the weights of a part, one of ``optim.lora.targets``."""
    return isinstance(trainable, LoRAConfig) and part in trainable.targets


def adapter_parameters(config: LCMConfig, lora: LoRAConfig) -> int:
    """Of all adapters of a model: r numbers for each row and each column of a weight."""
    D, F = config.width, config.ffn
    sides = 16 * D * adapts(lora, "attention") + 2 * (D + F) * adapts(lora, "ffn")
    return config.layers * lora.rank * sides


def adapted_parameters(config: LCMConfig, lora: LoRAConfig) -> int:
    """Of the weights that adapters stand on."""
    D, F = config.width, config.ffn
    return config.layers * (8 * D * D * adapts(lora, "attention") + 2 * D * F * adapts(lora, "ffn"))


def trained_parameters(config: LCMConfig, trainable: Trains) -> int:
    """Those with a gradient and optimiser state, by ``optim.trains``."""
    if isinstance(trainable, LoRAConfig):
        return token_parameters(config) + adapter_parameters(config, trainable)
    return parameter_count(config) if trainable == "all" else token_parameters(config)


def layer_flops(config: LCMConfig, tokens: int, formulation: str) -> dict[str, int]:
    """Forward FLOPs of one decoder layer (not the first) for one scan, by part; `tokens`: active
    tokens M."""
    if formulation not in FORMULATIONS:
        raise ValueError(f"formulation {formulation!r} is not one of {FORMULATIONS}")
    M, R, D, H, F = tokens, config.n_regions, config.width, config.heads, config.ffn
    if formulation != "absorbed":
        # query and output of M tokens, key and value of R rows; scores and weighted sum over K = D
        # / H of each head
        cross = 4 * M * D * D + 4 * R * D * D + 4 * M * R * D
    else:
        # query, W_k, W_v and output of M tokens; scores and weighted sum over the whole width in
        # every head
        cross = 8 * M * D * D + 4 * H * M * R * D
    return {
        "self-attention": 8 * M * D * D + 4 * M * M * D,
        "cross-attention": cross,
        "ffn": 4 * M * D * F,
    }


def forward_flops(config: LCMConfig, formulation: str, tokens: int | None = None) -> int:
    """Forward FLOPs of one scan through the whole model in evaluation; `tokens` defaults to the
    whole table."""
    M = config.n_tokens if tokens is None else tokens
    parts = layer_flops(config, M, formulation)
    return (
        _input_flops(config, M)
        + config.layers * (sum(parts.values()) + 2 * M * config.width)
        - parts["self-attention"]
    )


def training_flops(
    config: LCMConfig,
    formulation: str,
    tokens: int | None = None,
    recomputed: bool = True,
    trainable: Trains = "all",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> int:
    """FLOPs of forward and backward for one scan; what is done once a step is in `once_flops`.

    Backward makes a gradient of each of a product's two factors, so it costs twice forward. Only
    the gradient of the FC matrix is left out, because nothing is trained in front of it.
    Args:
        recomputed: count what `absorbed` makes again in backward (MFU leaves it out).
        trainable: ``optim.trains``; of `tokens` and adapters, weights get no gradient and nothing
            goes back to the FC rows.
        device, dtype: of the products, by which the embedding's norm goes its way.
    """
    M = config.n_tokens if tokens is None else tokens
    D, H = config.width, config.heads
    R, statistics = config.n_regions, _statistics_flops(config, device, dtype)
    if isinstance(trainable, LoRAConfig):
        adapters = _adapter_flops(config, formulation, M, trainable, recomputed)
        return _tokens_flops(config, formulation, M) + statistics + adapters
    if trainable == "tokens":
        return _tokens_flops(config, formulation, M) + statistics
    recomputed_flops = 0
    if formulation == "absorbed" and recomputed:
        recomputed_flops = config.layers * (2 * M * D * D + 2 * H * M * R * D)
    first = 2 * M * H * D if config.dropout else 0  # a factor a head for each token
    twice_backward = 3 * (forward_flops(config, formulation, M) + first)
    return twice_backward - _input_flops(config, M) + recomputed_flops + statistics


def _tokens_flops(config: LCMConfig, formulation: str, M: int) -> int:
    """`training_flops` where only tokens, final norm and readout train, without the embedding's
    statistics: the gradients on the way to the tokens."""
    R, D, H = config.n_regions, config.width, config.heads
    parts = layer_flops(config, M, formulation)
    back = (
        parts["self-attention"]
        + 4 * M * M * D
        + parts["cross-attention"]
        + parts["ffn"]
        + 4 * M * D
    )
    if formulation != "absorbed":
        back -= 4 * R * D * D  # to keys and values
    first = 2 * M * H * D if config.dropout else 0
    backward = config.layers * back - parts["self-attention"] - 4 * M * M * D + first
    edges = _input_flops(config, M) - 2 * R * R * D
    return forward_flops(config, formulation, M) + first + backward + edges


def _adapter_flops(
    config: LCMConfig, formulation: str, M: int, lora: LoRAConfig, recomputed: bool
) -> int:
    """What adapters add to `_tokens_flops`: their own gradients from the inputs of each product and
    its output gradients, and in attention what these are taken from."""
    R, D, H, F, L = config.n_regions, config.width, config.heads, config.ffn, config.layers
    r = lora.rank
    ffn = L * 8 * M * r * (D + F) * adapts(lora, "ffn")
    if not adapts(lora, "attention"):
        return ffn
    # queries and output of M tokens; keys and values of R rows, or in every head of M tokens
    cross = 16 * M * r * D
    if formulation == "absorbed":
        cross += 8 * M * r * D * (H + 1)
        cross += 2 * M * D * D + 2 * H * M * R * D if recomputed else 0
    else:
        cross += 16 * R * r * D + 4 * M * R * D
    first = 2 * M * H * D if config.dropout else 0
    return ffn + L * cross + (L - 1) * 32 * M * r * D + first


def once_flops(
    config: LCMConfig,
    tokens: int | None = None,
    trainable: Trains = "all",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> int:
    """FLOPs of a training step that do not depend on the batch: the first layer's self-attention,
    the variance of the embedding's outputs, and weights plus their adapters."""
    M = config.n_tokens if tokens is None else tokens
    R, D, H = config.n_regions, config.width, config.heads
    variance = 2 * R * R * D if from_inputs(R, D, device, dtype) else 0
    if isinstance(trainable, LoRAConfig):
        r, once = trainable.rank, once_flops(config, tokens, "tokens", device, dtype)
        sums = 2 * r * adapted_parameters(config, trainable)
        if not adapts(trainable, "attention"):
            return once + sums
        # Of the first layer's self-attention, the value bias alone goes through the output map.
        sums += 6 * D * r * H - 2 * r * D * D
        return once + sums + (16 * M * r * D if config.dropout else 2 * H * D - 6 * r * D * D)
    if trainable == "tokens":
        return variance + (8 * M * D * D + 6 * M * M * D if config.dropout else 2 * H * D)
    return variance + (3 * (4 * M * D * D + 2 * M * M * D) if config.dropout else 4 * H * D)


def crossover(regions: int, width: int, heads: int) -> float:
    """The number of tokens at which the two formulations cost the same: D R / (D + (H - 1) R), 83
    as published.

    The shorter D R / (D + H R), which gives 80, leaves out what `projected` spends on the scores
    and the weighted sum (docs/model.md, Arithmetic).
    """
    return width * regions / (width + (heads - 1) * regions)


def _statistics_flops(config: LCMConfig, device: str, dtype: torch.dtype) -> int:
    """Mean and covariance of a scan's rows, where the batch norm's statistics follow from them."""
    R = config.n_regions
    if not from_inputs(R, config.width, device, dtype):
        return 0
    return 2 * R * R + 2 * R * R * R


def _input_flops(config: LCMConfig, tokens: int) -> int:
    """Products whose input is data: the FC embedding, and our linear branch from the edges."""
    R = config.n_regions
    edges = R * (R - 1) // 2 * tokens if config.edge_branch else 0
    return 2 * R * R * config.width + 2 * edges
