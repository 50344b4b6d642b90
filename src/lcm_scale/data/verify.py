"""Reading shards back: one record from its bytes, and a whole set checked against its manifest."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale import checked, progress
from lcm_scale.data import stored
from lcm_scale.data.manifest import (
    INDEX,
    Record,
    Shard,
    ShardManifest,
    read_index,
    read_manifest,
)
from lcm_scale.data.quality_table import read_table
from lcm_scale.errors import InputError
from lcm_scale.files import inside, sha256

MEMBERS = ("fc.npy", "bei.npy", "meta.json")
ADVICE = "run `lcm-scale verify`, then shard the data again"


@dataclass(frozen=True)
class DecodedRecord:
    """One tar record, decoded: `fc` (scans, E), `bei` (scans, targets) float32, `meta` one mapping
    a scan."""

    fc: np.ndarray
    bei: np.ndarray
    meta: list[dict[str, Any]]


def decode_record(data: bytes, manifest: ShardManifest, scans: int) -> DecodedRecord:
    """One record from its bytes in a tar.

    Args: manifest: of its set.   scans: that it holds.
    Raises: InputError where they are damaged, or not what the manifest says.
    """
    members = _members(data)
    targets = len(manifest.vocabulary.targets)
    try:
        meta = json.loads(bytes(members["meta.json"]))
    except (ValueError, RecursionError) as error:
        raise InputError(f"damaged ({type(error).__name__}); {ADVICE}") from error
    return DecodedRecord(
        _edges(members, manifest, scans),
        stored.npy(members["bei.npy"], "bei.npy", "<f4", (scans, targets)),
        list(checked.entries(meta, "meta.json", _facts, scans)),
    )


def decode_edges(data: bytes, manifest: ShardManifest, scans: int) -> np.ndarray:
    """The matrices (scans, E) of a record alone, in the type of the set.  Arguments and errors as
    of `decode_record`."""
    return _edges(_members(data), manifest, scans)


def _edges(members: Mapping[str, memoryview], manifest: ShardManifest, scans: int) -> np.ndarray:
    dtype = np.dtype(manifest.dtype).newbyteorder("<").str
    return stored.npy(members["fc.npy"], "fc.npy", dtype, (scans, manifest.atlas.n_edges))


def _members(data: bytes) -> dict[str, memoryview]:
    """A record's three members, as views of its bytes.

    Not through webdataset: it also unpacks tars that are compressed or sparse, of a stranger's two
    megabytes to as many gigabytes.
    """
    found: dict[str, memoryview] = {}
    keys, last = set(), -1
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            while (member := tar.next()) is not None and len(found) < len(MEMBERS):
                if member.offset <= last or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                    raise InputError(f"damaged; {ADVICE}")
                key, _, name = Path(member.name).name.partition(".")
                place = member.offset_data
                found[name] = memoryview(data)[place : place + member.size]
                keys.add(key)
                last = member.offset
    except InputError:
        raise
    except Exception as error:  # a flipped bit makes tarfile raise whatever it likes
        raise InputError(f"damaged ({type(error).__name__}); {ADVICE}") from error
    if set(found) != set(MEMBERS) or len(keys) > 1:
        raise InputError(f"damaged: it does not hold {', '.join(MEMBERS)}; {ADVICE}")
    return found


def _facts(value: object, name: str) -> dict[str, Any]:
    own = checked.members(value, name, ("subject",))
    checked.text(own["subject"], f"{name}.subject")
    return own


def verify_shards(folder: Path) -> ShardManifest:
    """Check every byte of a set against its manifest, and that tars, index, manifest and table of
    quality tell the same of each scan.

    Raises: InputError naming the first damaged file and what to do.
    """
    manifest = read_manifest(folder)
    index = read_index(folder, manifest)
    row = 0
    with progress.stage(f"verify {manifest.name}", manifest.scans) as advance:
        for shard in manifest.shards:
            path = inside(folder, shard.file)
            check_file(path, shard)
            with open(path, "rb") as handle:
                for record in shard.records:
                    handle.seek(record.offset)
                    _check_record(
                        handle.read(record.bytes),
                        path,
                        record,
                        manifest,
                        index.subject[row:],
                        index.bei[row:],
                    )
                    row += record.scans
                    advance(record.scans)
    read_table(folder, manifest, index)
    return manifest


def check_size(path: Path, shard: Shard) -> None:
    """Raises: InputError where a tar is missing or of another size."""
    if not path.is_file():
        raise InputError(
            f"{path}: missing, the manifest lists it; `lcm-scale repair` makes it anew"
        )
    size = path.stat().st_size
    if size != shard.bytes:
        kind = "truncated" if size < shard.bytes else "too long"
        raise InputError(
            f"{path}: {kind}: {size} bytes, the manifest says {shard.bytes}; "
            "`lcm-scale repair` makes it anew"
        )


def check_file(path: Path, shard: Shard) -> None:
    """Raises: InputError where a tar is missing, of another size, or its SHA-256 is not the
    manifest's."""
    check_size(path, shard)
    if sha256(path) != shard.sha256:
        raise InputError(
            f"{path}: damaged: its SHA-256 is not the manifest's; `lcm-scale repair` makes it anew"
        )


def _check_record(
    data: bytes,
    path: Path,
    record: Record,
    manifest: ShardManifest,
    subject: np.ndarray,
    bei: np.ndarray,
) -> None:
    n = record.scans
    where = f"{path}, record {record.key}"
    try:
        decoded = decode_record(data, manifest, n)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if not np.isfinite(decoded.fc).all():
        raise InputError(f"{where}: a correlation is NaN or inf; shard the data again")
    if not np.array_equal(decoded.bei, bei[:n], equal_nan=True):
        raise InputError(f"{where}: labels differ from {INDEX}; shard the data again")
    if [fact["subject"] for fact in decoded.meta] != [manifest.subjects[s] for s in subject[:n]]:
        raise InputError(f"{where}: subjects differ from {INDEX}; shard the data again")
