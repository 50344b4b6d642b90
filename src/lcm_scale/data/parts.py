"""What a killed `shard` has read already: the matrices of some scans at a time, in a hidden folder
beside the shards, until the set is whole.

A part is found by a digest of everything that its numbers depend on: the recipe, the regions, the
version of the program, and of each file of its scans the path, the size and the time of its last
change. What does not fit is not found, and is read anew. It holds matrices and no id or name.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe
from lcm_scale.data.connectivity import Matrix
from lcm_scale.data.reading import Numbers
from lcm_scale.data.recordings import Skipped, Unread
from lcm_scale.files import write_atomic
from lcm_scale.provenance import versions

FACTS = ("window", "volumes", "constant", "not_finite", "scrubbed", "empty", "remark", "spikes")


class Parts:
    """Args: folder: of the parts; made when the first is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, key: str) -> bool:
        """Whether something is kept under a key."""
        return (self.folder / f"{key}.npz").is_file()

    def get(self, key: str, scans: Sequence[Unread]) -> list[Numbers] | None:
        """What was read of these scans, None where that is not kept, or damaged."""
        try:
            with np.load(self.folder / f"{key}.npz", allow_pickle=False) as file:
                values, text = file["values"], bytes(file["facts"])
            return _opened(json.loads(text), values, scans)
        except Exception:  # zip and JSON raise whatever damaged bytes make them
            return None

    def put(self, key: str, scans: Sequence[Unread], read: Sequence[Numbers | Skipped]) -> None:
        """Keep what was read, but where a scan was skipped for its file: that one is tried again.

        Raises: InputError where it cannot be written.
        """
        kept = [one for one in read if isinstance(one, Numbers)]
        if len(kept) < len(read):
            return
        facts, values = _closed(kept, scans)
        if facts is None:
            return
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        np.savez(buffer, values=values, facts=text)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder / f"{key}.npz", buffer.getvalue())

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def key_of(scans: Sequence[Unread], recipe: ShardRecipe, atlas: Atlas) -> str:
    """By what the numbers of these scans are found again."""
    said = [versions(), asdict(recipe), atlas.to_json()]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
    for scan in scans:
        digest.update(scan.source.encode(errors="surrogateescape"))
        for path in _files(scan.load):
            digest.update(_stamp(path).encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return f"{path} missing\n"
    return f"{path} {stat.st_size} {stat.st_mtime_ns}\n"


def _files(value: Any) -> Iterator[Path]:
    """Every path among the arguments of the call that loads a scan."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, partial):
        yield from _files((*value.args, *value.keywords.values()))
    elif isinstance(value, dict):
        yield from _files(tuple(value.values()))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _files(each)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _files(tuple(getattr(value, field.name) for field in fields(value)))


def _closed(
    read: Sequence[Numbers], scans: Sequence[Unread]
) -> tuple[list[dict[str, Any]] | None, np.ndarray]:
    """Facts as plain values, and all matrices (n, R, R); no facts where a name would be among
    them."""
    facts, values = [], []
    for numbers, scan in zip(read, scans, strict=True):
        windows: list[dict[str, Any]] = []
        for one in numbers.matrices:
            if isinstance(one, Matrix):
                windows.append({name: getattr(one, name) for name in FACTS})
                values.append(one.values)
            elif one.what.startswith(scan.source):
                rest = one.what.removeprefix(scan.source)
                windows.append({"rest": rest, "why": one.why, "reported": one.reported})
            else:
                return None, np.empty(0)
        facts.append(
            {
                "digest": numbers.digest.hex(),
                "ready": numbers.ready,
                "named": numbers.named,
                "remarks": numbers.remarks,
                "windows": windows,
            }
        )
    return facts, np.stack(values) if values else np.empty((0, 0, 0), np.float32)


def _opened(
    facts: list[dict[str, Any]], values: np.ndarray, scans: Sequence[Unread]
) -> list[Numbers]:
    """Raises: ValueError, KeyError or TypeError where they do not fit each other."""
    found, place = [], iter(values)
    for fact, scan in zip(facts, scans, strict=True):
        matrices: list[Matrix | Skipped] = []
        for window in fact["windows"]:
            if "why" in window:
                what = f"{scan.source}{window['rest']}"
                matrices.append(Skipped(what, window["why"], window["reported"]))
            else:
                known: dict[str, Any] = {
                    name: tuple(value) if isinstance(value, list) else value
                    for name, value in window.items()
                }
                matrices.append(Matrix(values=next(place).copy(), **known))
        remarks = tuple(fact["remarks"])
        digest = bytes.fromhex(fact["digest"])
        found.append(Numbers(digest, fact["ready"], fact["named"], remarks, matrices))
    return found
