"""Low-rank adapters (LoRA) on a model, and merged into weights that know nothing of them.

In: a model that is about to be finetuned, or the state of one that was. Out: adapters as parameters
of the modules whose weights they are added to (`products.Adaptable`), and plain weights. A
checkpoint in training holds base and adapters apart; whoever loads it gets them merged.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lcm_scale.config import LoRAConfig
from lcm_scale.errors import InputError
from lcm_scale.model.attention import Attention
from lcm_scale.model.lcm import LCM, DecoderLayer
from lcm_scale.model.products import LowRank, adapted
from lcm_scale.terminal import one_line

# What an adapter adds to a module's state, and the weights that one may be put on.
A, B, SCALE = "lora_a", "lora_b", "lora_scale"
WEIGHTS = ("weight", "in_proj_weight")
PACKED = 3  # parts of an attention's weight: queries, keys, values, each with an adapter of its own
# What trains beside adapters, and alone under `optim.trainable=tokens`: how the names begin.
BESIDE = ("tokens.", "norm.", "readout.", "edge_branch.")


def standing(model: LCM) -> list[str]:
    """Names of the weights that stay as they were, bit for bit, while adapters train.

    Statistics of norms and people memory are none of them: they are no parameters.
    """
    return [name for name, _ in model.named_parameters() if not name.startswith(BESIDE)]


def add_adapters(model: LCM, config: LoRAConfig) -> None:
    """Put fresh adapters on a model's layers, as parameters; they change nothing yet."""
    for module in model.layers.modules():
        if isinstance(module, Attention) and "attention" in config.targets:
            module.adapt(module.in_proj_weight, PACKED, config.rank, config.alpha)
            module.out_proj.adapt(module.out_proj.weight, 1, config.rank, config.alpha)
        if isinstance(module, DecoderLayer) and "ffn" in config.targets:
            module.linear1.adapt(module.linear1.weight, 1, config.rank, config.alpha)
            module.linear2.adapt(module.linear2.weight, 1, config.rank, config.alpha)


def merged(state: Mapping[str, Tensor], where: str) -> Mapping[str, Tensor]:
    """Weights with their adapters added; the same object where there are none.

    Args: where: the file, for messages.
    Raises: InputError where an adapter and its weight do not fit.
    """
    found = [name.removesuffix(A) for name in state if name.endswith(f".{A}")]
    if not found:
        return state
    plain = {k: v for k, v in state.items() if k.rpartition(".")[2] not in (A, B, SCALE)}
    for module in found:
        name = next((module + weight for weight in WEIGHTS if module + weight in plain), None)
        parts = [state.get(module + part) for part in (A, B, SCALE)]
        if name is None or any(part is None for part in parts):
            raise InputError(one_line(f"{where}: {module[:80]}{A} is no whole adapter of a weight"))
        low_rank = LowRank(*parts)  # type: ignore[arg-type]
        if not _fits(plain[name], low_rank):
            raise InputError(one_line(f"{where}: {module[:80]}{A} does not fit its weight"))
        plain[name] = adapted(plain[name], low_rank, torch.float32)
    return plain


def _fits(weight: Tensor, low_rank: LowRank) -> bool:
    a, b, scale = low_rank
    if any(value.dtype != torch.float32 for value in (weight, *low_rank)):
        return False
    if (weight.ndim, a.ndim, b.ndim, scale.ndim) != (2, 3, 3, 0):
        return False
    parts, rank, inputs = a.shape
    outputs = parts * b.shape[1]
    return weight.shape == (outputs, inputs) and b.shape == (parts, b.shape[1], rank)
