"""Any checkpoint as one safetensors file, whose metadata says what its numbers mean."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from lcm_scale.errors import InputError
from lcm_scale.files import replacing
from lcm_scale.provenance import versions
from lcm_scale.weights import checkpoints
from lcm_scale.weights.meaning import EXPORTED
from lcm_scale.weights.personal import check_personal


def export_plain(checkpoint: Path, path: Path, with_people: bool = False) -> Path:
    """Write a checkpoint's weights as one safetensors file; its metadata `lcm` says in JSON what
    the weights need.

    No GPU, and no more memory than a tensor beyond the mapped checkpoint, of whatever strategy and
    world size it is. Whom the model saw is a number there, not ids.

    Args: with_people: also a model that holds people's vectors.
    Raises: InputError as `checkpoints.load`, and where the file cannot be written.
    """
    if path.suffix != ".safetensors" or path.is_dir():
        raise InputError(
            f"{path}: weights go into a file that ends in .safetensors; "
            "`lcm-scale export hub` and `export official` write folders"
        )
    loaded = checkpoints.load(checkpoint)
    check_personal(loaded.model, checkpoint, with_people, "--with-people")
    meaning = replace(loaded, versions=versions()).to_json(EXPORTED)
    with replacing(path) as aside:
        save_readable(loaded.state, aside, {"lcm": json.dumps(meaning, ensure_ascii=False)})
    return path


def save_readable(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """safetensors, with the permissions that any new file has here: the library's own let nobody
    else of the group read it.

    Raises: OSError where it cannot be written.
    """
    try:
        save_file(dict(tensors), path, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
