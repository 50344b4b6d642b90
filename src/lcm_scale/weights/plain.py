"""Weights for others: any checkpoint as one safetensors file, the published model's pair of files
to a checkpoint and back.

The published files say neither which region stands in which row nor what a token means: whoever
imports them says so once, and the
checkpoint keeps it. Nothing is pickled: those files are read with `weights_only`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from lcm_scale.atlas import load_atlas
from lcm_scale.config import Recipe, dump
from lcm_scale.errors import InputError
from lcm_scale.files import replacing
from lcm_scale.model.lcm import LCM
from lcm_scale.provenance import versions
from lcm_scale.vocabulary import AGE, SEX, Target, Vocabulary, scalar, sex
from lcm_scale.weights import checkpoints
from lcm_scale.weights.checkpoints import Checkpoint
from lcm_scale.weights.official_keys import Official, config_of, from_official, to_official

BACKBONE, HEAD = "backbone.pth", "head.pth"
PLAIN = "lcm-scale-weights/1"


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
    backbone, head = _load(backbone_file), _load(head_file)
    vocabulary = _vocabulary(vocabulary_file)
    tokens = tuple(target.n_tokens for target in vocabulary.targets)
    config = config_of(backbone, head, tokens, heads)
    regions = load_atlas(atlas)
    if regions.n_regions != config.n_regions:
        raise InputError(
            f"{backbone_file}: trained on {config.n_regions} regions, atlas {atlas} has {regions.n_regions}"
        )
    state, official = from_official(backbone, head, tokens)
    with torch.device("meta"):
        expected = LCM(config).state_dict()
    for key, value in expected.items():
        if key not in state or state[key].shape != value.shape:
            found = tuple(state[key].shape) if key in state else "nothing"
            raise InputError(
                f"{head_file}: for {key}, expected {tuple(value.shape)}, found {found}"
            )
    return write_imported(
        run,
        f"{backbone_file.name} and {head_file.name}",
        {key: state[key] for key in expected},
        {
            "model": asdict(config),
            "vocabulary": vocabulary.to_json(),
            "atlas": regions.to_json(),
            "edges": "raw",
            "scalars": {AGE: [0.0, 1.0]},
            "readout": readout,
            "active": list(vocabulary.names),
            "official": {**asdict(official), "unused": dict(official.unused)},
        },
    )


def write_imported(
    run: Path, origin: str, state: Mapping[str, Tensor], meaning: dict[str, Any]
) -> Path:
    """Write weights that were not trained here as the checkpoint of a run folder.

    Args:
        origin: for the recipe's title.   meaning: what `checkpoints.load` reads, as far as the
            source says it.
    Returns: the checkpoint.  Raises: InputError where the folder holds one already, or it cannot be
        written.
    """
    path = run / "checkpoints" / checkpoints.BEST
    if path.parent.exists():
        raise InputError(f"{run}: holds checkpoints already; name a new run folder")
    data: dict[str, Any] = {
        "state_dict": {f"model.{key}": value for key, value in state.items()},
        "lcm": {
            "format": checkpoints.FORMAT,
            "run": run.name,
            "recipe": dump(Recipe(name=run.name, title=f"imported from {origin}")),
            "phase": "imported",
            "subjects": [],
            "unknown_subjects": True,  # nobody can tell whom the weights saw
            "salt_id": "",
            "fingerprints": {},
            "versions": versions(),
            **meaning,
        },
    }
    checkpoints.AtomicCheckpointIO().save_checkpoint(data, path)
    return path


def export_official(checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """Write a checkpoint's weights as the official pair of files.

    Raises: InputError where the model has what the published one lacks, or other last tokens than
        male, female, age.
    """
    loaded = checkpoints.load(checkpoint)
    last = [t.name for t in loaded.vocabulary.targets[-2:]]
    if last != [SEX, AGE] or len([t for t in loaded.vocabulary.targets if t.kind == "scalar"]) != 1:
        raise InputError(
            f"{loaded.path}: the official format ends in male, female and age; this one's targets are "
            f"{', '.join(loaded.vocabulary.names)}"
        )
    if tuple(loaded.scalars.get(AGE, (0.0, 1.0))) != (0.0, 1.0):
        raise InputError(
            f"{loaded.path}: predicts standardised ages, the published model years; it cannot be told so"
        )
    if loaded.edges != "raw" or loaded.model.mask_constant:
        what = (
            "Fisher z (data.edges)"
            if loaded.edges != "raw"
            else "no constant region (model.mask_constant)"
        )
        raise InputError(
            f"{loaded.path}: sees {what}, the published model raw correlations; it cannot be told so"
        )
    kept = checkpoints.read_file(loaded.path)["lcm"].get("official")
    official = None
    if kept:
        official = Official(**kept)
        official = replace(
            official, backbone_keys=tuple(kept["backbone_keys"]), head_keys=tuple(kept["head_keys"])
        )
    backbone, head = to_official(loaded.state, official)
    paths = folder / BACKBONE, folder / HEAD
    for path, weights in zip(paths, (backbone, head), strict=True):
        # Mapped tensors are copied, so that the files hold them and not views of the checkpoint.
        checkpoints.AtomicCheckpointIO().save_checkpoint(
            {k: v.clone() for k, v in weights.items()}, path
        )
    return paths


def save_readable(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """safetensors, with the permissions that any new file has here: the library's own let nobody
    else of the group read it."""
    save_file(dict(tensors), path, metadata)
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def about(loaded: Checkpoint) -> dict[str, Any]:
    """What a checkpoint's weights need in order to mean something, as plain values."""
    return {
        "format": PLAIN,
        "run": loaded.run,
        "model": asdict(loaded.model),
        "vocabulary": loaded.vocabulary.to_json(),
        "active": list(loaded.active),
        "atlas": loaded.atlas.to_json(),
        "edges": loaded.edges,
        "readout": loaded.readout,
        "scalars": {name: list(pair) for name, pair in loaded.scalars.items()},
        "subjects": len(loaded.subjects),
        "unknown_subjects": loaded.unknown_subjects,
        "data": list(loaded.data),
        "fingerprints": dict(loaded.fingerprints),
        "versions": versions(),
    }


def export_plain(checkpoint: Path, path: Path) -> Path:
    """Write a checkpoint's weights as one safetensors file; its metadata `lcm` says in JSON what
    the weights need.

    No GPU, and no more memory than a tensor beyond the mapped checkpoint, of whatever strategy and
    world size it is. Whom the model saw is a number there, not ids.

    Raises: InputError as `checkpoints.load`, and where the file cannot be written.
    """
    if path.suffix != ".safetensors" or path.is_dir():
        raise InputError(
            f"{path}: weights go into a file that ends in .safetensors; --format official writes a folder"
        )
    loaded = checkpoints.load(checkpoint)
    with replacing(path) as aside:
        try:
            save_readable(
                loaded.state, aside, {"lcm": json.dumps(about(loaded), ensure_ascii=False)}
            )
        except SafetensorError as error:
            raise RuntimeError(str(error)) from error
    return path


def _load(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except checkpoints.UNREADABLE as error:
        raise InputError(
            f"{path}: damaged, or not weights alone; files that would run code are not read"
        ) from error
    if not isinstance(data, dict) or not all(isinstance(value, Tensor) for value in data.values()):
        raise InputError(f"{path}: expected a state dict, names to tensors")
    return dict(data)


def _vocabulary(path: Path) -> Vocabulary:
    if not path.is_file():
        raise InputError(
            f"{path}: no such vocabulary file (YAML, group: [categories in token order])"
        )
    try:
        groups = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML") from error
    if not isinstance(groups, dict) or not all(
        isinstance(value, list) for value in groups.values()
    ):
        raise InputError(f"{path}: expected group: [categories in token order], a line a group")
    targets = [
        Target(str(name), "group", tuple(map(str, labels)), "N/A" if "N/A" in labels else "")
        for name, labels in groups.items()
    ]
    return Vocabulary((*targets, sex(), scalar()))
