"""A model for others: a folder as huggingface_hub lays one out, written and read.

    export_hub(run, folder)  # what `lcm-scale export hub RUN FOLDER` writes
    import_hub("folder-or-owner/name", Path("runs/pretrained"))  # to finetune it

`config.json` and `model.safetensors` are all that reading needs; huggingface_hub's mixin reads them
too. The other files are for people. Nothing is pickled. `lcm_scale.load_model` makes a model of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
from lcm_scale.files import check_new_folder, inside, new_folder, sha256
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
    check_new_folder(folder)
    loaded = checkpoints.load(checkpoint)
    check_personal(loaded.model, checkpoint, with_people, "--with-people")
    config, measured = config_of(loaded, dtype), results_for(loaded.path, results)
    texts = {CONFIG: dumped(config), **texts_beside(config, loaded, measured, licence)}
    with new_folder(folder) as aside:
        write_texts(texts, aside)
        _write_weights(loaded.state, DTYPES[dtype], shard_gb, aside)
    return folder


def write_texts(texts: Mapping[str, str], folder: Path) -> None:
    """Files by name."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def write_sums(names: Iterable[str], folder: Path) -> None:
    """`SUMS` of the files that hold the weights."""
    sums = [f"{sha256(folder / name)}  {name}\n" for name in sorted(names)]
    (folder / SUMS).write_text("".join(sums), encoding="ascii")


def results_for(file: Path, results: Path | None) -> dict[str, Any] | None:
    """What was measured, as `export_hub` looks for it; None where nothing is.

    Args: file: the checkpoint.
    """
    if results is None and file.parts[-3:-1] == (checkpoints.OF_EVERYBODY, "checkpoints"):
        above = file.parents[2] / RESULTS
        results = above if above.is_file() else None
    return None if results is None else read_results(results)


def config_of(loaded: checkpoints.Checkpoint, dtype: str) -> dict[str, Any]:
    """What is told of exported weights: the contents of `CONFIG`."""
    exported = replace(loaded, versions=versions(), history=history_of(loaded))
    return {**exported.to_json(EXPORTED), "dtype": dtype}


def texts_beside(
    config: dict[str, Any],
    loaded: checkpoints.Checkpoint,
    measured: dict[str, Any] | None,
    licence: str,
    base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The files beside the weights and what they mean, by name.

    Args: base: of adapters, the ``run`` and ``sha256`` of the model that they stand on.
    """
    mark = checkpoints.mark_of(loaded.path)
    texts = {
        "vocabulary.json": dumped(config["vocabulary"]),
        "atlas.tsv": as_table(loaded.atlas),
        "preprocessing.json": dumped({"edges": config["edges"], "data": config["data"]}),
        "README.md": card(config, measured, licence, mark, base),
    }
    if measured is not None:
        texts[EVALUATED] = dumped(evaluation_in_short(measured))
    return texts


def is_run(path_or_repo: str | Path) -> bool:
    """Whether it is named as a run folder or a checkpoint is, not as what was exported."""
    path = Path(path_or_repo)
    exported = (path / CONFIG).is_file() or (path / checkpoints.ADAPTERS).is_file()
    return (path.is_dir() and not exported) or path.suffix == ".ckpt"


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
    path = fetched(path_or_repo, revision)
    if file_in(path, checkpoints.ADAPTERS).is_file():
        raise InputError(
            f"{path_or_repo}: holds adapters without their base; name that with it: "
            "`lcm-scale predict --base BASE`, `lcm-scale import adapters`, load_model(base=...)"
        )
    config = checked.read_object(file_in(path, CONFIG))
    meaning = Meaning.from_json(config, EXPORTED, str(path / CONFIG))
    where = f"{path}: the weights do not fit {CONFIG}"
    state = checkpoints.fitted(meaning.model, _read_weights(path), where)
    return Folder(path, config, meaning, state, read_evaluated(file_in(path, EVALUATED)))


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
    write_sums(split.filename_to_tensors, folder)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(dumped(index), encoding="utf-8")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name in _files_of(folder):
        with intact(folder, name) as file:
            read = load_file(file)
        what = checkpoints.not_finite(read)
        if what:
            raise InputError(f"{file}: {what}: no model can be made of it")
        state |= read
    return state


@contextmanager
def intact(folder: Path, name: str) -> Iterator[Path]:
    """A file of weights, for the block to read; its sum is what `SUMS` says.

    Raises: InputError where it is damaged or missing, which safetensors may notice in the block.
    """
    sums, file = _sums(folder), file_in(folder, name)
    try:
        if name in sums and sha256(file) != sums[name]:
            raise InputError(
                f"{file}: damaged: its SHA-256 is not what {SUMS} says; fetch it again"
            )
        yield file
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{file}: missing or damaged ({_one_line(error)}); fetch it again"
        ) from error


def file_in(folder: Path, name: str) -> Path:
    """A file of the folder. In huggingface_hub's cache files are links to the repository's blobs.

    Raises: InputError where it is a link to anywhere else.
    """
    in_cache = folder.parent.name == "snapshots"
    return inside(folder, name, folder.parents[1] / "blobs" if in_cache else None)


def _sums(folder: Path) -> dict[str, str]:
    """File -> SHA-256; empty where there are none: a folder that somebody else wrote need not have
    them."""
    file = file_in(folder, SUMS)
    if not file.is_file():
        return {}
    with open(file, encoding="utf-8", errors="replace") as handle:
        lines = handle.read(LARGEST_SUMS).splitlines()
    return {name.strip(): digest for digest, _, name in (line.partition(" ") for line in lines)}


def _files_of(folder: Path) -> list[str]:
    """The names of the files that hold the weights."""
    file = file_in(folder, INDEX)
    if not file.is_file():
        return [WEIGHTS]
    try:
        index = checked.members(checked.read_object(file), "the file", ("weight_map",))
        names = checked.members(index["weight_map"], "weight_map", each=checked.file_name)
    except InputError as error:
        raise InputError(f"{file}: damaged: {error}; fetch it again") from error
    return sorted(set(names.values()))


def fetched(path_or_repo: str | Path, revision: str | None) -> Path:
    """The folder, on this machine.  Raises: InputError where there is none."""
    if Path(path_or_repo).is_dir():
        return Path(path_or_repo)
    weights = ["model*.safetensors", "adapters.safetensors"]
    wanted = [CONFIG, checkpoints.ADAPTERS, INDEX, SUMS, EVALUATED, *weights]
    try:
        return Path(snapshot_download(str(path_or_repo), revision=revision, allow_patterns=wanted))
    except Exception as error:  # its errors have no common base; each is the user's name or network
        raise InputError(
            f"{path_or_repo}: neither a folder nor a repository that can be fetched "
            f"({_one_line(error)})"
        ) from error


def dumped(value: Any) -> str:
    """As JSON for people."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _one_line(error: object) -> str:
    """A library's error as it fits into one line of ours."""
    return one_line(" ".join(str(error).split())[:160])
