"""Checkpoints: complete or absent, loaded without pickle, and sure of what they hold.

A file is written aside, fsynced and renamed; only then are older ones deleted. Beside Lightning's
state it holds, under `lcm`, the `Meaning` of its weights as plain values.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from lcm_scale.config import Recipe, dump
from lcm_scale.errors import InputError
from lcm_scale.files import replacing, said_by
from lcm_scale.model.lcm import LCM
from lcm_scale.model.lora import merged
from lcm_scale.model.presets import LCMConfig
from lcm_scale.provenance import versions
from lcm_scale.terminal import one_line, print
from lcm_scale.weights.calibration import Calibration
from lcm_scale.weights.meaning import CHECKPOINT, Meaning

BEST = "best.ckpt"
FINAL = "final.ckpt"  # of a finished run with people memory: what it answers with
OF_EVERYBODY = "model"  # folder of an evaluated run: a model trained on everybody
UNSEEN = "unseen-validation.ckpt"  # the same without the validation people in its memory
STABLE = "stable"  # folder of a run: where its decay began
ADAPTERS = "adapters.json"  # in a folder that holds adapters without their base (adapters.py)
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Meaning):
    """A model as a checkpoint holds it: its meaning, its weights, and the file they lie in."""

    path: Path
    state: Mapping[str, Tensor]


def is_intact(checkpoint: Path) -> bool:
    """Whether torch opens it, and every record's bytes fit the CRC that was written with them (the
    format is a zip archive).

    The sums are inside the file, so that a file and its sums can never be of two different moments.
    torch is asked as well, because it trips over flipped bits in headers that Python's reader never
    looks at.
    """
    try:
        stat = checkpoint.stat()
    except OSError:
        return False
    return _is_whole(checkpoint, stat.st_mtime_ns, stat.st_size)


def not_finite(state: Mapping[str, Tensor], of: str = "") -> str:
    """Of the first tensor that holds a NaN or an infinity its name and that it does, in words; ''
    where all are finite. One pass over mapped or resident numbers, nothing is copied.

    Args: of: what the tensors are of, to stand behind the name.
    """
    for name, value in state.items():
        if value.is_floating_point() and value.numel():
            # The extremes are NaN where any number is.
            low, high = torch.aminmax(value)
            if not bool(torch.isfinite(low) & torch.isfinite(high)):
                return " ".join(filter(None, (name, of, "holds numbers that are not finite")))
    return ""


def mark_of(checkpoint: Path) -> str:
    """By which the contents of checkpoints are told apart, wherever they lie and whatever they are
    called: from the sums of their records, not from the gigabytes.

    Raises: InputError where it cannot be read.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            records = [f"{r.filename} {r.CRC} {r.file_size}" for r in archive.infolist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{checkpoint}: damaged or not a checkpoint ({said_by(error)})") from error
    return hashlib.sha256("\n".join(records).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=64)
def _is_whole(checkpoint: Path, mtime_ns: int, size: int) -> bool:
    """Read a file once for as long as it stays as it was: to resume, 14 GB are chosen first and
    loaded then."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            # torch compresses nothing: two megabytes of zeros could unpack to two gigabytes.
            if any(r.compress_type != zipfile.ZIP_STORED for r in archive.infolist()):
                return False
            if archive.testzip() is not None:
                return False
        mapped(checkpoint)
        return True
    except Exception:  # flipped bits may name any compression, each with errors of its own
        return False


def mapped(checkpoint: Path) -> Any:
    """What an intact file holds; mapped, not read: 1.2B parameters with their optimiser state are
    14 GB."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)


def read_file(path: Path) -> dict[str, Any]:
    """The raw dictionary.  Raises: InputError where the file is missing, damaged, or not ours."""
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    if not is_intact(path):
        raise InputError(f"{path}: damaged or not a checkpoint; use an earlier one")
    data = mapped(path)
    meaning = data.get("lcm") if isinstance(data, dict) else None
    if not isinstance(meaning, dict) or meaning.get("format") != CHECKPOINT:
        raise InputError(f"{path}: not a checkpoint of this format ({CHECKPOINT})")
    return dict(data)


def write_file(data: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint, or any state dict, whole or not at all.

    Raises: InputError where it cannot be written; what stood at `path` is as it was.
    """
    advice = "check space and permissions; earlier checkpoints are untouched"
    with replacing(path, advice) as aside, open(aside, "wb") as handle:
        torch.save(data, handle)


def find(path: Path) -> Path:
    """A checkpoint by file, or by run folder: its final one, its best, else its newest; of a run
    that was evaluated alone, that of the model trained on everybody.

    Raises: InputError where there is none.
    """
    if path.is_file():
        return path
    if not (path / "checkpoints").is_dir() and (path / OF_EVERYBODY / "checkpoints").is_dir():
        return find(path / OF_EVERYBODY)
    for name in (FINAL, BEST):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    found = newest(path / "checkpoints")
    if found is None and (path / "folds").is_dir():
        raise InputError(
            f"{path}: holds the folds' models alone, each without its held-out people; `lcm-scale "
            f"evaluate {path / 'recipe.yaml'} evaluate.final=true` trains one on everybody"
        )
    if found is None and (path / ADAPTERS).is_file():
        raise InputError(
            f"{path}: holds adapters without their base; `lcm-scale import adapters {path} BASE "
            "RUN` makes a run of both"
        )
    if found is None:
        raise InputError(
            f"{path}: no checkpoint there; name a run folder with checkpoints/ or a .ckpt file"
        )
    return found


def newest(folder: Path) -> Path | None:
    """The intact `step-*.ckpt` with the highest step whose weights are finite; others are named on
    the terminal and passed over.

    Returns: None where there is none at all.  Raises: InputError where there are only such.
    """
    found = sorted(folder.glob("step-*.ckpt"), reverse=True)
    for checkpoint in found:
        what = unsound(checkpoint)
        if not what:
            return checkpoint
        print(f"{checkpoint}: {what}; it is passed over", file=sys.stderr)
    if found:
        raise InputError(
            f"{folder}: all {len(found)} checkpoints are damaged or not finite; remove the run "
            "folder to begin again"
        )
    return None


def unsound(checkpoint: Path) -> str:
    """Why a run cannot go on from a checkpoint, in words; '' where it can."""
    if not is_intact(checkpoint):
        return "damaged"
    # Release 0.1.0 went on, and saved, after a loss that was no number.
    return _not_finite(checkpoint, checkpoint.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _not_finite(checkpoint: Path, mtime_ns: int) -> str:
    """As `not_finite`, of a file that is intact."""
    data = mapped(checkpoint)
    weights = data.get("state_dict", {}) if isinstance(data, dict) else {}
    return not_finite(weights) if are_weights(weights) else "damaged"


def load(path: Path, harmonised: bool = False, apart: bool = False) -> Checkpoint:
    """Load a model from a file or run folder; where low-rank adapters were trained, they are added
    to the weights that they stand on.

    Args:
        harmonised: whether a model will do that saw matrices which its fold harmonised.
        apart: leave adapters beside the weights that they stand on.
    Raises: InputError as `find` and `read_file`, where the file does not say in full what its
        weights mean, where a weight is not finite, and where the model is a harmonised one and
        that will not do: it would misread matrices as they are.
    """
    file = find(path)
    data = read_file(file)
    meaning = Meaning.from_json(data["lcm"], CHECKPOINT, str(file))
    if meaning.harmonised != "none" and not harmonised:
        raise InputError(
            f"{file}: a fold's model, trained on matrices that the fold harmonised "
            f"(evaluate.harmonise={meaning.harmonised}); it answers in that evaluation only. Train "
            "one without it"
        )
    weights = data.get("state_dict")
    if not are_weights(weights):
        raise InputError(f"{file}: damaged: its state_dict holds no weights; use an earlier one")
    prefix = "model."
    state = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    if sum(value.nbytes for value in state.values()) > file.stat().st_size:
        raise InputError(f"{file}: damaged: more weights than the file has bytes for")
    if not apart:
        state = dict(merged(state, str(file)))
    what = not_finite(state)
    if what:
        raise InputError(f"{file}: {what}: training diverged; use an earlier checkpoint")
    return Checkpoint(**vars(meaning), path=file, state=state)


def are_weights(value: object) -> TypeGuard[dict[str, Tensor]]:
    """Whether it is a dictionary of names to tensors that are what they seem: a tensor with strides
    of 0 claims terabytes of a file of one number."""
    return isinstance(value, dict) and all(
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and not (tensor.is_nested or tensor.is_quantized)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.nbytes <= tensor.untyped_storage().nbytes()
        for name, tensor in value.items()
    )


def fitted(config: LCMConfig, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """A model's weights in its own order, as they are; nothing is allocated for that.

    Raises: InputError naming the first weight that is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        wanted = LCM(config).state_dict()
    check_places(wanted, state, where)
    return {name: state[name] for name in wanted}


def check_places(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """See that weights are those that are wanted, in any type of float; tensors without numbers
    will do on both sides.

    Raises: InputError as `fitted`.
    """
    for name, value in wanted.items():
        if name not in state or state[name].shape != value.shape:
            found = tuple(state[name].shape) if name in state else "nothing"
            raise InputError(f"{where}: for {name}, expected {tuple(value.shape)}, found {found}")
        if state[name].dtype not in (FLOATS if value.is_floating_point() else (value.dtype,)):
            raise InputError(f"{where}: {name} is of type {state[name].dtype}")
    unknown = [name for name in state if name not in wanted]
    if unknown:
        raise InputError(
            one_line(f"{where}: this model has no place for the weight {unknown[0][:80]}")
        )


def write_imported(run: Path, origin: str, meaning: Meaning, state: Mapping[str, Tensor]) -> Path:
    """Write weights that were not trained here as the checkpoint of a run folder.

    Args:
        origin: for the recipe's title.   meaning: as far as the source says it; nobody can tell
            whom the weights saw.
    Returns: the checkpoint.  Raises: InputError where the folder holds one already, or it cannot be
        written.
    """
    path = run / "checkpoints" / BEST
    if path.parent.exists():
        raise InputError(f"{run}: holds checkpoints already; name a new run folder")
    own = replace(
        meaning,
        run=run.name,
        recipe=dump(Recipe(name=run.name, title=f"imported from {origin}")),
        phase="imported",
        subjects=frozenset(),
        unknown_subjects=True,
        salt_id="",
        versions=versions(),
    )
    weights = {f"model.{name}": value for name, value in state.items()}
    write_file({"state_dict": weights, "lcm": own.to_json()}, path)
    return path


def add_calibration(path: Path, maps: Mapping[str, Calibration]) -> None:
    """Store maps of a model's probabilities, by target, in its checkpoint.

    Raises: InputError where it cannot be read or written; it is then as it was.
    """
    data = read_file(path)
    meaning = Meaning.from_json(data["lcm"], CHECKPOINT, str(path))
    write_file({**data, "lcm": replace(meaning, calibration=maps).to_json()}, path)


def keep_stable(run: Path, step: int) -> None:
    """Keep what a longer run can start from: the checkpoint at which the decay begins, what
    validation chose up to there,
    and the log. Complete or absent: `stable/` appears by a rename.

    Raises: InputError where it cannot be written.
    """
    aside, stable = run / ".stable-aside", run / STABLE
    if stable.is_dir():
        return
    shutil.rmtree(aside, ignore_errors=True)
    try:
        (aside / "checkpoints").mkdir(parents=True)
        for name in (f"step-{step:08d}.ckpt", BEST):
            if (run / "checkpoints" / name).is_file():
                # A link: checkpoints are replaced, never written into.
                os.link(run / "checkpoints" / name, aside / "checkpoints" / name)
        shutil.copy2(run / "log.jsonl", aside / "log.jsonl")
        os.replace(aside, stable)
    except OSError as error:
        raise InputError(
            f"{stable}: cannot be written ({said_by(error)}); check space; checkpoints are "
            "untouched"
        ) from error


def prune(folder: Path, keep: int, keep_every: int | None) -> None:
    """Delete step checkpoints but the newest `keep` and every `keep_every`-th step's, and what a
    kill left half-written."""
    for old in sorted(folder.glob("step-*.ckpt"))[:-keep]:
        if not keep_every or int(old.stem.removeprefix("step-")) % keep_every:
            old.unlink()
    for part in folder.glob(".*.partial"):
        part.unlink()
