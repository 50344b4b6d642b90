"""Reading shards back: one record from its bytes, and a whole set checked against its manifest."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import webdataset as wds

from lcm_scale import progress
from lcm_scale.data.manifest import (
    INDEX,
    MANIFEST,
    Record,
    Shard,
    ShardManifest,
    read_index,
    read_manifest,
)
from lcm_scale.errors import InputError
from lcm_scale.files import sha256


@dataclass(frozen=True)
class DecodedRecord:
    """One tar record, decoded: `fc` (scans, E), `bei` (scans, targets) float32, `meta` one mapping
    a scan."""

    fc: np.ndarray
    bei: np.ndarray
    meta: list[dict[str, Any]]


def decode_record(data: bytes) -> DecodedRecord:
    """One record from its bytes in a tar.  Raises: InputError where they are damaged."""
    try:
        source = [{"url": "record", "stream": io.BytesIO(data)}]
        samples = list(wds.tariterators.group_by_keys(wds.tariterators.tar_file_expander(source)))
        (sample,) = samples
        fc, bei = (
            np.load(io.BytesIO(sample[name]), allow_pickle=False) for name in ("fc.npy", "bei.npy")
        )
        meta = json.loads(sample["meta.json"])
    except (
        Exception
    ) as error:  # a flipped bit makes tarfile, numpy and json raise whatever they like
        raise InputError(
            f"damaged ({type(error).__name__}); run `lcm-scale verify`, then shard the data again"
        ) from error
    if not len(fc) == len(bei) == len(meta):
        raise InputError(
            f"holds {len(fc)} matrices, {len(bei)} labels and {len(meta)} facts; shard the data "
            "again"
        )
    return DecodedRecord(fc, bei, meta)


def verify_shards(folder: Path) -> ShardManifest:
    """Check every byte of a set against its manifest, and that tars, index and manifest tell the
    same of each scan.

    Raises: InputError naming the first damaged file and what to do.
    """
    manifest = read_manifest(folder)
    index = read_index(folder, manifest)
    counts = {manifest.scans, len(index.subject), sum(shard.scans for shard in manifest.shards)}
    if len(counts) > 1 or any(
        sum(r.scans for r in shard.records) != shard.scans for shard in manifest.shards
    ):
        raise InputError(f"{folder / MANIFEST}: counts of scans do not agree; shard the data again")
    row = 0
    with progress.stage(f"verify {manifest.name}", manifest.scans) as advance:
        for shard in manifest.shards:
            path = folder / shard.file
            check_file(path, shard)
            with open(path, "rb") as handle:
                for record in shard.records:
                    handle.seek(record.offset)
                    decoded = _decoded(handle.read(record.bytes), path, record)
                    _check_record(
                        decoded, path, record, manifest, index.subject[row:], index.bei[row:]
                    )
                    row += record.scans
                    advance(record.scans)
    return manifest


def check_file(path: Path, shard: Shard) -> None:
    """Raises: InputError where a tar is missing, of another size, or its SHA-256 is not the
    manifest's."""
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
    if sha256(path) != shard.sha256:
        raise InputError(
            f"{path}: damaged: its SHA-256 is not the manifest's; `lcm-scale repair` makes it anew"
        )


def _decoded(data: bytes, path: Path, record: Record) -> DecodedRecord:
    try:
        return decode_record(data)
    except InputError as error:
        raise InputError(f"{path}, record {record.key}: {error}") from error


def _check_record(
    decoded: DecodedRecord,
    path: Path,
    record: Record,
    manifest: ShardManifest,
    subject: np.ndarray,
    bei: np.ndarray,
) -> None:
    n = record.scans
    where = f"{path}, record {record.key}"
    if decoded.fc.shape != (n, manifest.atlas.n_edges) or decoded.fc.dtype != manifest.dtype:
        raise InputError(
            f"{where}: matrices of shape {decoded.fc.shape}, {decoded.fc.dtype}; not what the "
            "manifest says"
        )
    if not np.isfinite(decoded.fc).all():
        raise InputError(f"{where}: a correlation is NaN or inf; shard the data again")
    if not np.array_equal(decoded.bei, bei[:n], equal_nan=True):
        raise InputError(f"{where}: labels differ from {INDEX}; shard the data again")
    if [fact["subject"] for fact in decoded.meta] != [manifest.subjects[s] for s in subject[:n]]:
        raise InputError(f"{where}: subjects differ from {INDEX}; shard the data again")
