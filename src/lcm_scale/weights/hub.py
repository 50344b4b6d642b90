"""A model for others: a folder as huggingface_hub lays one out, written and read.

    export_hub(run, folder)  # what `lcm-scale export hub RUN FOLDER` writes
    import_hub("folder-or-owner/name", Path("runs/pretrained"))  # to finetune it

`config.json` and `model.safetensors` are all that reading needs; huggingface_hub's mixin reads them
too. The other files are for people. Nothing is pickled. `lcm_scale.load_model` makes a model of it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download, split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lcm_scale import checked
from lcm_scale.atlas import as_table
from lcm_scale.errors import InputError
from lcm_scale.files import inside, said_by, sha256, sync_folder
from lcm_scale.provenance import versions
from lcm_scale.terminal import one_line
from lcm_scale.weights import checkpoints
from lcm_scale.weights.card import (
    EVALUATED,
    RESULTS,
    card,
    evaluation_in_short,
    read_evaluated,
    read_results,
)
from lcm_scale.weights.history import history_of
from lcm_scale.weights.meaning import EXPORTED, Meaning
from lcm_scale.weights.personal import check_personal
from lcm_scale.weights.plain import save_readable

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# Of the weights, as `sha256sum -c` reads them: safetensors has no checksum of its own.
SUMS = "SHA256SUMS"
LARGEST_SUMS = 2**20  # characters: ten thousand files
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Folder:
    """An exported model as it was read.

    Attributes:
        path: where it lies on this machine.   config: the contents of ``config.json``.
        meaning: what `config` says.   state: the weights that it wants, in their stored type.
        evaluated: what is said of the evaluation of its recipe; None where nothing is.
    """

    path: Path
    config: dict[str, Any]
    meaning: Meaning
    state: dict[str, Tensor]
    evaluated: dict[str, Any] | None = None


def export_hub(
    checkpoint: Path,
    folder: Path,
    dtype: str = "fp32",
    shard_gb: float = 5.0,
    results: Path | None = None,
    licence: str = "",
    with_people: bool = False,
) -> Path:
    """Write a checkpoint as a folder that `load_model` and huggingface_hub's mixin read; complete
    or not there.

    Args:
        dtype: of the weights, fp32, bf16 or fp16; buffers of the norms stay fp32.
        shard_gb: the largest file; the mixin reads one file only, `load_model` any number.
        results: a run folder with ``results.json``, whose measures go into the card; None: where
            the model is of everybody in an evaluated run (RUN/model), that run.
        licence: SPDX name, for the card.
        with_people: also a model that holds people's vectors.
    Raises: InputError.
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: one of {', '.join(DTYPES)}")
    if not shard_gb > 0:
        raise InputError(f"--shard-gb {shard_gb:g}: above 0")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists; name a new folder")
    loaded = checkpoints.load(checkpoint)
    check_personal(loaded.model, checkpoint, with_people, "--with-people")
    texts = _texts(loaded, dtype, _measured(loaded.path, results), licence)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        aside.mkdir(parents=True)
        for name, text in texts.items():
            (aside / name).write_text(text, encoding="utf-8")
        _write_weights(loaded.state, DTYPES[dtype], shard_gb, aside)
        for file in aside.iterdir():
            sync_folder(file)
        if folder.exists():
            folder.rmdir()
        os.replace(aside, folder)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{folder}: cannot be written ({said_by(error)}); check space and permissions"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _measured(file: Path, results: Path | None) -> dict[str, Any] | None:
    """What was measured, as `export_hub` looks for it; None where nothing is.

    Args: file: the checkpoint.
    """
    if results is None and file.parts[-3:-1] == (checkpoints.OF_EVERYBODY, "checkpoints"):
        above = file.parents[2] / RESULTS
        results = above if above.is_file() else None
    return None if results is None else read_results(results)


def _texts(
    loaded: checkpoints.Checkpoint, dtype: str, measured: dict[str, Any] | None, licence: str
) -> dict[str, str]:
    """The files beside the weights, by name."""
    exported = replace(loaded, versions=versions(), history=history_of(loaded))
    config = {**exported.to_json(EXPORTED), "dtype": dtype}
    texts = {
        CONFIG: _dumped(config),
        "vocabulary.json": _dumped(config["vocabulary"]),
        "atlas.tsv": as_table(loaded.atlas),
        "preprocessing.json": _dumped({"edges": config["edges"], "data": config["data"]}),
        "README.md": card(config, measured, licence, checkpoints.mark_of(loaded.path)),
    }
    if measured is not None:
        texts[EVALUATED] = _dumped(evaluation_in_short(measured))
    return texts


def import_hub(path_or_repo: str | Path, run: Path, revision: str | None = None) -> Path:
    """Write a folder or repository that `export_hub` made as the checkpoint of a run folder, for
    `finetune` and `evaluate`.

    Weights in bf16 or fp16 are widened.  Returns: the checkpoint.  Raises: InputError.
    """
    found = read_folder(path_or_repo, revision)
    wide = {
        name: value.float() if value.is_floating_point() else value
        for name, value in found.state.items()
    }
    return checkpoints.write_imported(run, str(path_or_repo), found.meaning, wide)


def read_folder(path_or_repo: str | Path, revision: str | None = None) -> Folder:
    """A folder that `export_hub` wrote, or a repository of the Hugging Face hub.

    Raises: InputError where it cannot be fetched, is damaged, or its weights are not those of its
        configuration.
    """
    path = _fetched(path_or_repo, revision)
    config = checked.read_object(_file(path, CONFIG))
    meaning = Meaning.from_json(config, EXPORTED, str(path / CONFIG))
    where = f"{path}: the weights do not fit {CONFIG}"
    state = checkpoints.fitted(meaning.model, _read_weights(path), where)
    return Folder(path, config, meaning, state, read_evaluated(_file(path, EVALUATED)))


def _write_weights(
    state: Mapping[str, Tensor], dtype: torch.dtype, shard_gb: float, folder: Path
) -> None:
    def narrowed(name: str, tensor: Tensor) -> Tensor:
        kept = not tensor.is_floating_point() or name.startswith("people.") or "running_" in name
        return tensor.contiguous() if kept else tensor.to(dtype).contiguous()

    # By what they will weigh: mapped tensors are not read for that.
    sizes = {name: torch.empty(t.shape, dtype=dtype, device="meta") for name, t in state.items()}
    split = split_torch_state_dict_into_shards(
        sizes, filename_pattern="model{suffix}.safetensors", max_shard_size=int(shard_gb * 1e9)
    )
    for file, names in split.filename_to_tensors.items():
        narrow = {name: narrowed(name, state[name]) for name in names}
        what = checkpoints.not_finite(narrow)
        if what:
            raise InputError(f"{what} in {dtype}, though the checkpoint's are; use --dtype fp32")
        save_readable(narrow, folder / file, {"format": "pt"})
    sums = [f"{sha256(folder / file)}  {file}\n" for file in sorted(split.filename_to_tensors)]
    (folder / SUMS).write_text("".join(sums), encoding="ascii")
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(_dumped(index), encoding="utf-8")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    sums = _sums(folder)
    state: dict[str, Tensor] = {}
    for name in _files_of(folder):
        file = _file(folder, name)
        try:
            if name in sums and sha256(file) != sums[name]:
                raise InputError(
                    f"{file}: damaged: its SHA-256 is not what {SUMS} says; fetch it again"
                )
            read = load_file(file)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{file}: missing or damaged ({_one_line(error)}); fetch it again"
            ) from error
        what = checkpoints.not_finite(read)
        if what:
            raise InputError(f"{file}: {what}: no model can be made of it")
        state |= read
    return state


def _file(folder: Path, name: str) -> Path:
    """A file of the folder. In huggingface_hub's cache files are links to the repository's blobs.

    Raises: InputError where it is a link to anywhere else.
    """
    in_cache = folder.parent.name == "snapshots"
    return inside(folder, name, folder.parents[1] / "blobs" if in_cache else None)


def _sums(folder: Path) -> dict[str, str]:
    """File -> SHA-256; empty where there are none: a folder that somebody else wrote need not have
    them."""
    file = _file(folder, SUMS)
    if not file.is_file():
        return {}
    with open(file, encoding="utf-8", errors="replace") as handle:
        lines = handle.read(LARGEST_SUMS).splitlines()
    return {name.strip(): digest for digest, _, name in (line.partition(" ") for line in lines)}


def _files_of(folder: Path) -> list[str]:
    """The names of the files that hold the weights."""
    file = _file(folder, INDEX)
    if not file.is_file():
        return [WEIGHTS]
    try:
        index = checked.members(checked.read_object(file), "the file", ("weight_map",))
        names = checked.members(index["weight_map"], "weight_map", each=checked.file_name)
    except InputError as error:
        raise InputError(f"{file}: damaged: {error}; fetch it again") from error
    return sorted(set(names.values()))


def _fetched(path_or_repo: str | Path, revision: str | None) -> Path:
    if Path(path_or_repo).is_dir():
        return Path(path_or_repo)
    wanted = [CONFIG, INDEX, SUMS, EVALUATED, "model*.safetensors"]
    try:
        return Path(snapshot_download(str(path_or_repo), revision=revision, allow_patterns=wanted))
    except Exception as error:  # its errors have no common base; each is the user's name or network
        raise InputError(
            f"{path_or_repo}: neither a folder nor a repository that can be fetched "
            f"({_one_line(error)})"
        ) from error


def _dumped(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _one_line(error: object) -> str:
    """A library's error as it fits into one line of ours."""
    return one_line(" ".join(str(error).split())[:160])
