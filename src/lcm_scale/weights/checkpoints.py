"""Checkpoints: complete or absent, loaded without pickle, and sure of what they hold.

A file is written aside, fsynced and renamed; only then are older ones deleted. Beside Lightning's
state it holds, under
`lcm`, plain values: model, vocabulary, atlas, how edges were fed, scalar scales, recipe, versions,
shard fingerprints and the hashed ids of everybody it was trained or chosen on.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from lcm_scale.atlas import Atlas
from lcm_scale.errors import InputError
from lcm_scale.files import replacing
from lcm_scale.model.presets import LCMConfig
from lcm_scale.vocabulary import Vocabulary

FORMAT = "lcm-scale-checkpoint/1"
BEST = "best.ckpt"
STABLE = "stable"  # folder of a run: where its decay began
UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    KeyError,
    ValueError,
    UnpicklingError,
)  # what torch.load makes of bad files


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written whole or not at all and read with `weights_only`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        advice = "check space and permissions; earlier checkpoints are untouched"
        with replacing(Path(path), advice) as aside, open(aside, "wb") as handle:
            torch.save(checkpoint, handle)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_file(Path(path))


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


@functools.lru_cache(maxsize=64)
def _is_whole(checkpoint: Path, mtime_ns: int, size: int) -> bool:
    """Read a file once for as long as it stays as it was: to resume, 14 GB are chosen first and
    loaded then."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            if archive.testzip() is not None:
                return False
        _mapped(checkpoint)
        return True
    except Exception:  # flipped bits may name any compression, each with errors of its own
        return False


def _mapped(checkpoint: Path) -> Any:
    """Mapped, not read: 1.2B parameters with their optimiser state are 14 GB."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)


@dataclass(frozen=True)
class Checkpoint:
    """A model as a checkpoint holds it.

    Attributes:
        run: the name of the run that made it.
        edges: what the model was fed: raw or fisher_z.   readout: of the last phase.   active:
            names of its targets.
        scalars: scalar target -> (centre, scale).
        subjects: hashed ids of everybody who took part in training or in choosing the epoch.
        unknown_subjects: whether it, or what it started from, was imported, so that it saw others
            that nobody can name.
        data: of each set it was trained on name, scans, people, simulated, connectivity and notes.
        state: the model's weights.
    """

    path: Path
    run: str
    model: LCMConfig
    vocabulary: Vocabulary
    atlas: Atlas
    edges: str
    readout: str
    active: tuple[str, ...]
    scalars: Mapping[str, tuple[float, float]]
    subjects: frozenset[str]
    salt_id: str
    fingerprints: Mapping[str, str]
    state: Mapping[str, Tensor]
    unknown_subjects: bool = False
    data: tuple[Mapping[str, Any], ...] = ()


def read_file(path: Path) -> dict[str, Any]:
    """The raw dictionary.  Raises: InputError where the file is missing, damaged, or not ours."""
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    if not is_intact(path):
        raise InputError(f"{path}: damaged or not a checkpoint; use an earlier one")
    try:
        data = _mapped(path)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: damaged or not a checkpoint ({str(error).splitlines()[0][:80]}); use an earlier one"
        ) from error
    if not isinstance(data, dict) or data.get("lcm", {}).get("format") != FORMAT:
        raise InputError(f"{path}: not a checkpoint of this format ({FORMAT})")
    return data


def find(path: Path) -> Path:
    """A checkpoint by file, or by run folder: its best, else its newest.  Raises: InputError."""
    if path.is_file():
        return path
    best = path / "checkpoints" / BEST
    if best.is_file():
        return best
    there = newest(path / "checkpoints")
    if there is None:
        raise InputError(
            f"{path}: no checkpoint there; name a run folder with checkpoints/ or a .ckpt file"
        )
    return there


def newest(folder: Path) -> Path | None:
    """The intact `step-*.ckpt` with the highest step; damaged ones are named on the terminal and
    passed over.

    Returns: None where there is none at all.  Raises: InputError where there are only damaged ones.
    """
    there = sorted(folder.glob("step-*.ckpt"), reverse=True)
    for checkpoint in there:
        if is_intact(checkpoint):
            return checkpoint
        print(f"{checkpoint}: damaged; it is passed over", file=sys.stderr)
    if there:
        raise InputError(
            f"{folder}: all {len(there)} checkpoints are damaged; remove the run folder to begin again"
        )
    return None


def load(path: Path) -> Checkpoint:
    """Load a model from a file or run folder.  Raises: InputError as `find` and `read_file`."""
    file = find(path)
    data = read_file(file)
    meta = data["lcm"]
    config = dict(meta["model"])
    config["target_tokens"] = tuple(config["target_tokens"])
    prefix = "model."
    return Checkpoint(
        path=file,
        run=meta["run"],
        model=LCMConfig(**config),
        vocabulary=Vocabulary.from_json(meta["vocabulary"]),
        atlas=Atlas.from_json(meta["atlas"]),
        edges=meta["edges"],
        readout=meta["readout"],
        active=tuple(meta["active"]),
        scalars={name: (centre, scale) for name, (centre, scale) in meta["scalars"].items()},
        subjects=frozenset(meta["subjects"]),
        salt_id=meta["salt_id"],
        fingerprints=meta["fingerprints"],
        state={
            k.removeprefix(prefix): v for k, v in data["state_dict"].items() if k.startswith(prefix)
        },
        unknown_subjects=meta.get("unknown_subjects", "official" in meta),
        data=tuple(meta.get("data", ())),
    )


def keep_stable(run: Path, step: int) -> None:
    """Keep what a longer run can start from: the checkpoint at which the decay begins, what
    validation chose up to there,
    and the log. Complete or absent: `stable/` appears by a rename."""
    aside, stable = run / ".stable-aside", run / STABLE
    if stable.is_dir():
        return
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "checkpoints").mkdir(parents=True)
    for name in (f"step-{step:08d}.ckpt", BEST):
        if (run / "checkpoints" / name).is_file():
            # A link: checkpoints are replaced, never written into.
            os.link(run / "checkpoints" / name, aside / "checkpoints" / name)
    shutil.copy2(run / "log.jsonl", aside / "log.jsonl")
    os.replace(aside, stable)


def prune(folder: Path, keep: int, keep_every: int | None) -> None:
    """Delete step checkpoints but the newest `keep` and every `keep_every`-th step's, and what a
    kill left half-written."""
    for old in sorted(folder.glob("step-*.ckpt"))[:-keep]:
        if not keep_every or int(old.stem.removeprefix("step-")) % keep_every:
            old.unlink()
    for part in folder.glob(".*.partial"):
        part.unlink()
