"""The published model's pair of files: in as a checkpoint, and out again.

The backbone file holds the FC embedding, the head file everything else. Tokens stand in
`object_query` as classes group by group, male, female, age; after finetuning, `finetune_query`
holds the tokens that stand between the classes and the last three. `sex_embed` and `age_embed` are
in the file and used by nothing: they are kept aside and written back. The files say neither which
region stands in which row nor what a token means: whoever imports them says so once, and the
checkpoint keeps it. Nothing is pickled: they are read with `weights_only`.

Legend: R regions, D width, F ffn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lcm_scale import checked
from lcm_scale.atlas import load_atlas
from lcm_scale.config.run import READOUTS
from lcm_scale.config.yaml_text import read_file
from lcm_scale.errors import InputError
from lcm_scale.model.presets import LCMConfig
from lcm_scale.vocabulary import AGE, SEX, Target, Vocabulary, scalar, sex
from lcm_scale.weights import checkpoints
from lcm_scale.weights.meaning import LARGEST, Meaning, Official

Weights = Mapping[str, Tensor]

BACKBONE, HEAD = "backbone.pth", "head.pth"
EMBEDDING = {"lin.0": "embedding.linear", "lin.1": "embedding.norm"}
PARTS = {"self_attn": "self_attention", "multihead_attn": "cross_attention"}
UNUSED = ("sex_embed.weight", "sex_embed.bias", "age_embed.weight", "age_embed.bias")
QUERY, FINETUNE = "object_query.weight", "finetune_query.weight"
LAYER = re.compile(r"decoder\.layers\.(\d{1,4})\.(\w+)(.*)$")  # number, part, what is in it
LAST = 3  # male, female, age: the tokens that stay at the end of `object_query`


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
    layer = LAYER.match(key)
    if layer:
        return f"layers.{layer[1]}.{PARTS.get(layer[2], layer[2])}{layer[3]}"
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
        if weights[key].ndim != 2:
            raise InputError(
                f"the {file} file's {key}: expected a table, found {weights[key].ndim}-D"
            )
    tables = [head[key] for key in (QUERY, FINETUNE) if key in head]
    found = sum(len(table) for table in tables)
    if found != sum(target_tokens):
        raise InputError(
            f"the head file has {found} tokens, the vocabulary {sum(target_tokens)} "
            f"({' + '.join(map(str, target_tokens))}); name every group with every category, N/A "
            "included"
        )
    width, regions = backbone["lin.0.weight"].shape
    if any(table.shape[1:] != (width,) for table in tables):
        raise InputError(f"the head file's tokens are not of the backbone's width, {width}")
    layers = 1 + max(int(layer[1]) for layer in map(LAYER.match, head) if layer)
    ffn = len(head["decoder.layers.0.linear1.weight"])
    checked.whole(layers, "layers of the head file", 1, LARGEST["layers"])
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
    if any(key.startswith("people.") for key in state):
        raise InputError(
            "this model has people memory, and the published model has none; export the decoder "
            "alone: checkpoints/best.ckpt of the run"
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
        if key not in (QUERY, FINETUNE, *UNUSED) and our_key(key) in state
    }
    theirs |= official.unused
    middle = len(tokens) - LAST - official.finetuned
    theirs[QUERY] = torch.cat([tokens[:middle], tokens[-LAST:]])
    theirs[FINETUNE] = tokens[middle:-LAST].clone()
    for key in (*official.backbone_keys, *official.head_keys):
        if key not in theirs:
            raise InputError(f"this checkpoint has no {key}; import the official files anew")
    backbone = {key: theirs[key] for key in official.backbone_keys}
    return backbone, {key: theirs[key] for key in official.head_keys}


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


def import_official(
    backbone_file: Path,
    head_file: Path,
    vocabulary_file: Path,
    atlas: str,
    run: Path,
    readout: str = "adaptive",
    heads: int = 8,
) -> Path:
    """Write the official pair as the checkpoint of a run folder, ready for `finetune` and
    `evaluate`.

    Args:
        vocabulary_file: YAML, group name -> its categories in token order, N/A first where the
            group has one; a group that came with finetuning stands last. Sex (M, F) and age follow
            by themselves.
        atlas: a built-in name or an atlas file whose row order is the one that the weights saw.
        readout: how logits are read at evaluation (objectives.READOUTS): the mixed runs adaptive,
            single-set runs last.
        heads: of the attention, which the files do not say; 8 in every published model.
    Returns: the checkpoint.  Raises: InputError.
    """
    checked.choice(readout, "readout", READOUTS)
    checked.whole(heads, "heads", 1, LARGEST["heads"])
    backbone, head = _load(backbone_file), _load(head_file)
    vocabulary = _vocabulary(vocabulary_file)
    tokens = tuple(target.n_tokens for target in vocabulary.targets)
    config = config_of(backbone, head, tokens, heads)
    regions = load_atlas(atlas)
    if regions.n_regions != config.n_regions:
        raise InputError(
            f"{backbone_file}: trained on {config.n_regions} regions, atlas {atlas} has "
            f"{regions.n_regions}"
        )
    state, official = from_official(backbone, head, tokens)
    meaning = Meaning(
        run=run.name,
        model=config,
        vocabulary=vocabulary,
        atlas=regions,
        edges="raw",
        readout=readout,
        active=vocabulary.names,
        scalars={AGE: (0.0, 1.0)},
        official=official,
    )
    return checkpoints.write_imported(
        run,
        f"{backbone_file.name} and {head_file.name}",
        meaning,
        checkpoints.fitted(config, state, str(head_file)),
    )


def export_official(checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """Write a checkpoint's weights as the official pair of files.

    Raises: InputError where the model has what the published one lacks, or other last tokens than
        male, female, age.
    """
    loaded = checkpoints.load(checkpoint)
    last = [t.name for t in loaded.vocabulary.targets[-2:]]
    if last != [SEX, AGE] or len([t for t in loaded.vocabulary.targets if t.kind == "scalar"]) != 1:
        raise InputError(
            f"{loaded.path}: the official format ends in male, female and age; this one's targets "
            f"are {', '.join(loaded.vocabulary.names)}"
        )
    if loaded.vocabulary[AGE].log:
        raise InputError(
            f"{loaded.path}: predicts the logarithm of age, the published model years; it cannot "
            "be told so"
        )
    if tuple(loaded.scalars.get(AGE, (0.0, 1.0))) != (0.0, 1.0):
        raise InputError(
            f"{loaded.path}: predicts standardised ages, the published model years; it cannot be "
            "told so"
        )
    if loaded.edges != "raw" or loaded.model.mask_constant:
        what = (
            "Fisher z (data.edges)"
            if loaded.edges != "raw"
            else "no constant region (model.mask_constant)"
        )
        raise InputError(
            f"{loaded.path}: sees {what}, the published model raw correlations; it cannot be told "
            "so"
        )
    backbone, head = to_official(loaded.state, loaded.official)
    paths = folder / BACKBONE, folder / HEAD
    for path, weights in zip(paths, (backbone, head), strict=True):
        # Mapped tensors are copied, so that the files hold them and not views of the checkpoint.
        checkpoints.write_file({k: v.clone() for k, v in weights.items()}, path)
    return paths


def _load(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not checkpoints.is_intact(path):
        raise InputError(
            f"{path}: damaged, or not weights alone; files that would run code are not read"
        )
    data = checkpoints.mapped(path)
    if not checkpoints.are_weights(data):
        raise InputError(f"{path}: expected a state dict, names to tensors")
    what = checkpoints.not_finite(data)
    if what:
        raise InputError(f"{path}: {what}: no model can be made of it")
    return dict(data)


def _vocabulary(path: Path) -> Vocabulary:
    if not path.is_file():
        raise InputError(
            f"{path}: no such vocabulary file (YAML, group: [categories in token order])"
        )
    groups = read_file(path)
    if not isinstance(groups, dict) or not all(
        isinstance(labels, list) and all(isinstance(label, str | int) for label in labels)
        for labels in groups.values()
    ):
        raise InputError(f"{path}: expected group: [categories in token order], a line a group")
    targets = [
        Target(str(name), "group", tuple(map(str, labels)), "N/A" if "N/A" in labels else "")
        for name, labels in groups.items()
    ]
    return Vocabulary((*targets, sex(), scalar()))
