"""The published model's weights: which key of the official pair of files is which of ours.

The backbone file holds the FC embedding, the head file everything else. Tokens stand in
`object_query` as classes group by group, male, female, age; after finetuning, `finetune_query`
holds the tokens that stand between the classes and the last three. `sex_embed` and `age_embed` are
in the file and used by nothing: they are kept aside and written back.
Legend: R regions, D width, F ffn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lcm_scale.errors import InputError
from lcm_scale.model.presets import LCMConfig

Weights = Mapping[str, Tensor]

EMBEDDING = {"lin.0": "embedding.linear", "lin.1": "embedding.norm"}
PARTS = {"self_attn": "self_attention", "multihead_attn": "cross_attention"}
UNUSED = ("sex_embed.weight", "sex_embed.bias", "age_embed.weight", "age_embed.bias")
QUERY, FINETUNE = "object_query.weight", "finetune_query.weight"
LAST = 3  # male, female, age: the tokens that stay at the end of `object_query`


@dataclass(frozen=True)
class Official:
    """A pair of official files, and what ours has no place for.

    Attributes:
        finetuned: tokens in `finetune_query`; 0: the file has none.
        unused: the weights that the published model never uses.
        backbone_keys, head_keys: the files' keys in their order.
    """

    finetuned: int
    unused: Weights
    backbone_keys: tuple[str, ...]
    head_keys: tuple[str, ...]


def our_key(key: str) -> str:
    """Our name of an official key (not of a table of tokens).  Raises: InputError for a key nobody
    knows."""
    for theirs, ours in EMBEDDING.items():
        if key.startswith(f"{theirs}."):
            return ours + key.removeprefix(theirs)
    if key.startswith("class_embed."):
        return key.replace("class_embed", "readout")
    if key.startswith("decoder.norm."):
        return key.removeprefix("decoder.")
    if key.startswith("decoder.layers."):
        _, _, number, part, *rest = key.split(".")
        return ".".join(["layers", number, PARTS.get(part, part), *rest])
    raise InputError(f"official weights: unknown key {key}")


def config_of(
    backbone: Weights, head: Weights, target_tokens: Sequence[int], heads: int = 8
) -> LCMConfig:
    """The model that these weights are of; the number of heads (8 as published) cannot be read off
    them.

    Raises: InputError where a key is missing, or the tokens are not as many as `target_tokens`
        says.
    """
    for key, weights, file in (
        ("lin.0.weight", backbone, "backbone"),
        (QUERY, head, "head"),
        ("decoder.layers.0.linear1.weight", head, "head"),
    ):
        if key not in weights:
            raise InputError(f"the {file} file has no {key}: is it the official {file}?")
    there = sum(len(head[key]) for key in (QUERY, FINETUNE) if key in head)
    if there != sum(target_tokens):
        raise InputError(
            f"the head file has {there} tokens, the vocabulary {sum(target_tokens)} "
            f"({' + '.join(map(str, target_tokens))}); name every group with every category, N/A included"
        )
    width, regions = backbone["lin.0.weight"].shape
    layers = 1 + max(int(key.split(".")[2]) for key in head if key.startswith("decoder.layers."))
    ffn = len(head["decoder.layers.0.linear1.weight"])
    return LCMConfig(
        regions, tuple(target_tokens), width=width, layers=layers, heads=heads, ffn=ffn
    )


def from_official(
    backbone: Weights, head: Weights, target_tokens: Sequence[int]
) -> tuple[dict[str, Tensor], Official]:
    """Official weights as our state dict, and what is kept aside."""
    tokens = head[QUERY]
    if FINETUNE in head:
        tokens = torch.cat([tokens[:-LAST], head[FINETUNE], tokens[-LAST:]])
    state = {our_key(key): value for key, value in backbone.items()}
    state |= {
        our_key(key): value for key, value in head.items() if key not in (QUERY, FINETUNE, *UNUSED)
    }
    for number, rows in enumerate(tokens.split(list(target_tokens))):
        state[f"tokens.target_{number}"] = rows.clone()
    unused = {key: head[key] for key in UNUSED if key in head}
    finetuned = len(head[FINETUNE]) if FINETUNE in head else 0
    return state, Official(finetuned, unused, tuple(backbone), tuple(head))


def to_official(
    state: Weights, official: Official | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Our state dict as the official pair (backbone, head).

    Args:
        official: what `from_official` kept aside; None for a model of ours, whose unused weights
            are then zeros.
    Raises: InputError for a model with parts that the official one lacks.
    """
    extra = next((key for key in state if key.startswith("edge_branch.")), None)
    if extra:
        raise InputError(
            f"this model has {extra}: the published model has no linear branch (model.edge_branch)"
        )
    numbers = sorted(
        int(k.removeprefix("tokens.target_")) for k in state if k.startswith("tokens.target_")
    )
    tokens = torch.cat([state[f"tokens.target_{number}"] for number in numbers])
    if official is None:
        official = _of_ours(state, tokens)
    theirs = {
        key: state[our_key(key)]
        for key in (*official.backbone_keys, *official.head_keys)
        if key not in (QUERY, FINETUNE, *UNUSED)
    }
    theirs |= official.unused
    middle = len(tokens) - LAST - official.finetuned
    theirs[QUERY] = torch.cat([tokens[:middle], tokens[-LAST:]])
    theirs[FINETUNE] = tokens[middle:-LAST].clone()
    return {key: theirs[key] for key in official.backbone_keys}, {
        key: theirs[key] for key in official.head_keys
    }


def _of_ours(state: Weights, tokens: Tensor) -> Official:
    """The keys of an official file with our weights."""
    names = {ours: theirs for theirs, ours in PARTS.items()}
    backbone, head = [], [QUERY]
    for key in state:
        if key.startswith("embedding."):
            _, which, name = key.split(".")
            backbone.append(f"lin.{('linear', 'norm').index(which)}.{name}")
        elif key.startswith("layers."):
            first, number, part, *rest = key.split(".")
            head.append(".".join(["decoder", first, number, names.get(part, part), *rest]))
        elif key.startswith("norm."):
            head.append(f"decoder.{key}")
        elif key.startswith("readout."):
            head.append(key.replace("readout", "class_embed"))
    zeros = {
        key: tokens.new_zeros((1, tokens.shape[1]) if key.endswith("weight") else (1,))
        for key in UNUSED
    }
    return Official(0, zeros, tuple(backbone), (*head, *UNUSED))
