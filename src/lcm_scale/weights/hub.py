"""A model for others: a folder as huggingface_hub lays one out, with what its numbers mean, and
back.

    export_hub(run, folder)            # what `lcm-scale export RUN FOLDER` writes
    model = load_model("folder-or-owner/name", atlas="my_order.tsv", reorder=True)
    model.predict(correlations)        # {"diagnosis": (B, categories), "age": (B,)}
    import_hub("folder-or-owner/name", Path("runs/pretrained"))  # to finetune it

`config.json` and `model.safetensors` are all that loading needs; huggingface_hub's mixin loads them
too. The other files are for people. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import (
    PyTorchModelHubMixin,
    snapshot_download,
    split_torch_state_dict_into_shards,
)
from jinja2 import Environment
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lcm_scale.atlas import Atlas, edge_order, load_atlas
from lcm_scale.data.verify import sha256
from lcm_scale.errors import InputError
from lcm_scale.files import sync_folder
from lcm_scale.inference.predictor import Meaning, read_scores
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig
from lcm_scale.vocabulary import Vocabulary
from lcm_scale.weights import checkpoints
from lcm_scale.weights.plain import PLAIN, about, save_readable, write_imported

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SUMS = "SHA256SUMS"  # of the weights, as `sha256sum -c` reads them: safetensors has no checksum of its own
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PretrainedLCM(LCM, PyTorchModelHubMixin, library_name="lcm-scale"):
    """An LCM that knows what it was fed and what it answers.

    Args: config: the contents of ``config.json``.
    Attributes: meaning: vocabulary, order of regions, and what else its answers take.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        if config.get("format") != PLAIN:
            raise InputError(f"{CONFIG}: not of this format ({PLAIN})")
        model = dict(config["model"])
        model["target_tokens"] = tuple(model["target_tokens"])
        super().__init__(LCMConfig(**model))
        self.meaning = Meaning(
            Vocabulary.from_json(config["vocabulary"]),
            tuple(config["active"]),
            Atlas.from_json(config["atlas"]),
            config["edges"],
            config["readout"],
            {k: (centre, scale) for k, (centre, scale) in config["scalars"].items()},
        )

    @torch.no_grad()
    def predict(self, fc_BRR: Tensor) -> dict[str, Tensor]:
        """Answers to raw correlations (B, R, R) in the order of `meaning.atlas`: of a target with
        categories their probabilities (B, categories), of a scalar its value (B,) in its own unit.

        Raises: InputError for another shape, or numbers that are no correlations.
        """
        R = self.meaning.atlas.n_regions
        if fc_BRR.ndim != 3 or fc_BRR.shape[1:] != (R, R):
            raise InputError(
                f"predict: expected (scans, {R}, {R}) for {self.meaning.atlas.name}, found {tuple(fc_BRR.shape)}"
            )
        if not bool((fc_BRR.abs() <= 1 + 1e-3).all()):
            raise InputError("predict: correlations are between -1 and 1, and none is NaN")
        was_training = self.training
        self.eval()
        rows, columns = torch.triu_indices(R, R, 1, device=fc_BRR.device)
        scores = read_scores(self, self.meaning, fc_BRR[:, rows, columns])
        self.train(was_training)
        kinds = {target.name: target.is_class for target in self.meaning.vocabulary.targets}
        return {
            name: score.softmax(1) if kinds[name] else score[:, 0] for name, score in scores.items()
        }

    @torch.no_grad()
    def reorder(self, atlas: Atlas) -> None:
        """Expect rows in another order of the same regions from now on: the outputs are exactly the
        same.

        Rows carry no position in the model; columns are inputs of the embedding, so its weight's
        columns move.
        Raises: InputError where the regions differ.
        """
        place = torch.from_numpy(self.meaning.atlas.order_from(atlas))
        weight = self.embedding.linear.weight
        weight.copy_(torch.empty_like(weight).index_copy_(1, place, weight))
        if self.edge_branch is not None:
            edges = torch.from_numpy(edge_order(place.numpy()))
            branch = self.edge_branch
            for table in (branch.centre, branch.scale, *branch.table.parameters()):
                table.copy_(torch.empty_like(table).index_copy_(-1, edges, table))
        self.meaning = replace(self.meaning, atlas=atlas)
        # what `save_pretrained` writes
        self._hub_mixin_config = {
            **cast(dict[str, Any], self._hub_mixin_config),
            "atlas": atlas.to_json(),
        }

    def _save_pretrained(self, save_directory: Path) -> None:
        """As the mixin saves; what described other weights in that folder goes."""
        super()._save_pretrained(save_directory)
        for name in (INDEX, SUMS):
            (save_directory / name).unlink(missing_ok=True)


def load_model(
    path_or_repo: str | Path,
    atlas: Atlas | str | None = None,
    reorder: bool = False,
    revision: str | None = None,
) -> PretrainedLCM:
    """A model from a folder that `lcm-scale export` wrote, or from a repository of the Hugging Face
    hub, in evaluation mode.

    Args:
        atlas: the order in which the caller's matrices hold the regions: an `Atlas`, a built-in
            name, or a table's path.
        reorder: bring the model into that order where it differs; else another order is refused.
        revision: of the repository.
    Raises: InputError.
    """
    folder = _folder(path_or_repo, revision)
    try:
        model = PretrainedLCM(_json(folder / CONFIG))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / CONFIG}: damaged, or of another version ({_first_lines(error)})"
        ) from error
    try:
        model.load_state_dict(_weights(folder), strict=True)
    except RuntimeError as error:
        raise InputError(
            f"{folder}: the weights do not fit {CONFIG}: {_first_lines(error)}"
        ) from error
    if atlas is not None:
        wanted = atlas if isinstance(atlas, Atlas) else load_atlas(atlas)
        trained = model.meaning.atlas
        if wanted.checksum != trained.checksum:
            if not reorder:
                raise InputError(
                    f"{path_or_repo}: was trained on {trained.name} in the order {trained.checksum}, the data are "
                    f"{wanted.name} in {wanted.checksum}; reorder=True brings the model into it by atlas index"
                )
            model.reorder(wanted)
    return model.eval()


def export_hub(
    checkpoint: Path,
    folder: Path,
    dtype: str = "fp32",
    shard_gb: float = 5.0,
    results: Path | None = None,
    licence: str = "",
) -> Path:
    """Write a checkpoint as a folder that `load_model` and huggingface_hub's mixin read; complete
    or not there.

    Args:
        dtype: of the weights, fp32, bf16 or fp16; buffers of the norms stay fp32.
        shard_gb: the largest file; the mixin reads one file only, `load_model` any number.
        results: a run folder with ``results.json``, whose measures go into the card.
        licence: SPDX name, for the card.
    Raises: InputError.
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: one of {', '.join(DTYPES)}")
    if not shard_gb > 0:
        raise InputError(f"--shard-gb {shard_gb:g}: above 0")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists; name a new folder")
    loaded = checkpoints.load(checkpoint)
    measured = None
    if results is not None:
        file = results / "results.json" if results.is_dir() else results
        measured = _json(file)
        if not {"title", "simulated", "verdict", "protocol", "targets"} <= set(measured):
            raise InputError(
                f"{file}: not the results of an evaluation; name a run that `lcm-scale evaluate` wrote"
            )
    config = {**about(loaded), "dtype": dtype}
    texts = {
        CONFIG: _dumped(config),
        "vocabulary.json": _dumped(loaded.vocabulary.to_json()),
        "atlas.tsv": _table(loaded.atlas),
        "preprocessing.json": _dumped({"edges": loaded.edges, "data": list(loaded.data)}),
        "README.md": card(config, measured, licence),
    }
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
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:80]
        raise InputError(
            f"{folder}: cannot be written ({reason}); check space and permissions"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def import_hub(path_or_repo: str | Path, run: Path, revision: str | None = None) -> Path:
    """Write a folder or repository that `export_hub` made as the checkpoint of a run folder, for
    `finetune` and `evaluate`.

    Weights in bf16 or fp16 are widened.  Returns: the checkpoint.  Raises: InputError.
    """
    model = load_model(path_or_repo, revision=revision)
    config = cast(
        dict[str, Any], model._hub_mixin_config
    )  # what it was made from: a repository is asked once
    kept = (
        "model",
        "vocabulary",
        "active",
        "atlas",
        "edges",
        "readout",
        "scalars",
        "data",
        "fingerprints",
    )
    return write_imported(
        run, str(path_or_repo), model.state_dict(), {key: config[key] for key in kept}
    )


def card(config: Mapping[str, Any], results: Mapping[str, Any] | None, licence: str) -> str:
    """The model card (Markdown with a YAML head): data, targets, measures with intervals and
    baselines, limits, licence."""
    template = (resources.files("lcm_scale.weights") / "card.md.j2").read_text(encoding="utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    known = [entry["simulated"] for entry in config["data"]]
    return environment.from_string(template).render(
        about=config,
        results=results,
        licence=licence,
        simulated=any(known),
        targets=[t for t in config["vocabulary"] if t["name"] in config["active"]],
    )


def _write_weights(
    state: Mapping[str, Tensor], dtype: torch.dtype, shard_gb: float, folder: Path
) -> None:
    def narrowed(name: str, tensor: Tensor) -> Tensor:
        kept = not tensor.is_floating_point() or "running_" in name
        return tensor.contiguous() if kept else tensor.to(dtype).contiguous()

    # By what they will weigh: mapped tensors are not read for that.
    sizes = {name: torch.empty(t.shape, dtype=dtype, device="meta") for name, t in state.items()}
    split = split_torch_state_dict_into_shards(
        sizes, filename_pattern="model{suffix}.safetensors", max_shard_size=int(shard_gb * 1e9)
    )
    for file, names in split.filename_to_tensors.items():
        save_readable(
            {name: narrowed(name, state[name]) for name in names}, folder / file, {"format": "pt"}
        )
    sums = [f"{sha256(folder / file)}  {file}\n" for file in sorted(split.filename_to_tensors)]
    (folder / SUMS).write_text("".join(sums), encoding="ascii")
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX).write_text(_dumped(index), encoding="utf-8")


def _weights(folder: Path) -> dict[str, Tensor]:
    names = [WEIGHTS]
    if (folder / INDEX).is_file():
        names = sorted(set(_json(folder / INDEX)["weight_map"].values()))
    sums = {}
    if (folder / SUMS).is_file():  # a folder that somebody else wrote need not have them
        lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
        sums = {name.strip(): digest for digest, _, name in (line.partition(" ") for line in lines)}
    state: dict[str, Tensor] = {}
    for name in names:
        if Path(name).name != name:
            raise InputError(f"{folder / INDEX}: names a file outside its folder ({name})")
        try:
            if name in sums and sha256(folder / name) != sums[name]:
                raise InputError(
                    f"{folder / name}: damaged: its SHA-256 is not what {SUMS} says; fetch it again"
                )
            state |= load_file(folder / name)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{folder / name}: missing or damaged ({_first_lines(error)}); fetch it again"
            ) from error
    return state


def _folder(path_or_repo: str | Path, revision: str | None) -> Path:
    if Path(path_or_repo).is_dir():
        return Path(path_or_repo)
    wanted = [CONFIG, INDEX, SUMS, "model*.safetensors"]
    try:
        return Path(snapshot_download(str(path_or_repo), revision=revision, allow_patterns=wanted))
    except Exception as error:  # its errors have no common base; each is the user's name or network
        raise InputError(
            f"{path_or_repo}: neither a folder nor a repository that can be fetched ({_first_lines(error)})"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected an object")
    return data


def _table(atlas: Atlas) -> str:
    """As `load_atlas` reads it."""
    rows = [("index", "name"), *zip(map(str, atlas.indices), atlas.names, strict=True)]
    return "\n".join("\t".join(row) for row in rows) + "\n"


def _dumped(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
