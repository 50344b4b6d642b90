"""The manifest: what a folder of shards holds, enough to split, mix and check it without opening a
tar.

`manifest.json` lies beside the tars; `index.npz` beside it holds one row a scan (subject, labels),
so that a million scans can be split and their labels counted without reading them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import kind_of
from lcm_scale.errors import InputError
from lcm_scale.vocabulary import Vocabulary

FORMAT = "lcm-scale-shards/1"
MANIFEST = "manifest.json"
INDEX = "index.npz"


@dataclass(frozen=True)
class Record:
    """One tar record: a block of scans, readable on its own at [offset, offset + bytes) of its
    tar."""

    key: str
    offset: int
    bytes: int
    scans: int


@dataclass(frozen=True)
class Shard:
    """One tar file."""

    file: str
    bytes: int
    sha256: str
    scans: int
    records: tuple[Record, ...]


@dataclass(frozen=True)
class ShardManifest:
    """A shard set.

    Attributes:
        name: its folder's name.   cohort: the study its subject ids belong to.
        salt_id: fingerprint of the salt that hashed the subjects; sets of one id recognise each
            other's people.
        simulated: true where no real person was scanned; every output says so.
        vocabulary: targets, in the order of the columns of ``bei.npy`` and of ``index.npz``.
        subjects: hashed subject ids, position = the scan index's subject number.
        subject_ranks: position of each subject among the sorted raw ids, which the published folds
            need.
        connectivity: the recipe of the matrices, as plain values.
        quality: constant regions by name and count, scans read and skipped, as plain values.
        notes: what a report must say about this set (confounds, terms of use).
    """

    name: str
    cohort: str
    salt_id: str
    simulated: bool
    atlas: Atlas
    vocabulary: Vocabulary
    connectivity: Mapping[str, Any]
    dtype: str
    block: int
    scans: int
    subjects: tuple[str, ...]
    subject_ranks: tuple[int, ...]
    shards: tuple[Shard, ...]
    index_sha256: str
    quality: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] | None = None

    @property
    def kind(self) -> str:
        """The kind of connectivity in words; sets of different words are not mixed unasked."""
        return kind_of(self.connectivity)

    @property
    def missing(self) -> tuple[str, ...]:
        """Regions, by name, that have no data in some scan: rows of zeros there."""
        keys = ("constant regions, in scans", "regions with NaN or inf, in scans")
        return tuple(dict.fromkeys(name for key in keys for name in self.quality.get(key, {})))

    @property
    def fingerprint(self) -> str:
        """Changes whenever any scan, label, region order, split unit or kind of matrix does."""
        parts = [
            FORMAT,
            self.atlas.checksum,
            json.dumps(self.vocabulary.to_json()),
            self.index_sha256,
        ]
        parts += [shard.sha256 for shard in self.shards]
        if self.kind != "pearson":  # sets from before there were kinds keep theirs
            parts.append(self.kind)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data.update(
            format=FORMAT,
            atlas=self.atlas.to_json(),
            vocabulary=self.vocabulary.to_json(),
            fingerprint=self.fingerprint,
        )
        data["checksum"] = _checksum(data)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ShardManifest:
        shards = tuple(
            Shard(
                s["file"],
                s["bytes"],
                s["sha256"],
                s["scans"],
                tuple(Record(**r) for r in s["records"]),
            )
            for s in data["shards"]
        )
        return cls(
            name=data["name"],
            cohort=data["cohort"],
            salt_id=data["salt_id"],
            simulated=data["simulated"],
            atlas=Atlas.from_json(data["atlas"]),
            vocabulary=Vocabulary.from_json(data["vocabulary"]),
            connectivity=data["connectivity"],
            dtype=data["dtype"],
            block=data["block"],
            scans=data["scans"],
            subjects=tuple(data["subjects"]),
            subject_ranks=tuple(data["subject_ranks"]),
            shards=shards,
            index_sha256=data["index_sha256"],
            quality=data["quality"],
            notes=tuple(data["notes"]),
            versions=data["versions"],
        )


@dataclass(frozen=True)
class ScanIndex:
    """One row a scan, in manifest order (tar by tar, record by record).

    Attributes:
        subject: int32 (N,) position in `ShardManifest.subjects`.
        site: int32 (N,) position in `sites`, -1 unknown.
        sites: site names.
        bei: float32 (N, targets) as `environment` encodes them, NaN missing.
        mean_fd: float32 (N,) mm, NaN unknown.
        volumes: int32 (N,) volumes that entered the matrix, 0 where a ready matrix was given.
        scan: int32 (N,) which rows are windows of one scan; None where the file does not say,
            because each row is a scan of its own (or an older version wrote it).
    """

    subject: np.ndarray
    site: np.ndarray
    sites: tuple[str, ...]
    bei: np.ndarray
    mean_fd: np.ndarray
    volumes: np.ndarray
    scan: np.ndarray | None = None


def _checksum(data: Mapping[str, Any]) -> str:
    """Of all that a manifest says: a flipped bit in a subject's hash would move that person to
    another fold."""
    text = json.dumps({k: v for k, v in data.items() if k != "checksum"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> ShardManifest:
    """The manifest of a shard folder.  Raises: InputError where it is missing, damaged or of
    another format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{folder}: no {MANIFEST}; write shards with `lcm-scale shard`, or name their folder"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("format") != FORMAT:
            raise InputError(
                f"{path}: format '{data.get('format')}', this version reads '{FORMAT}'"
            )
        manifest = ShardManifest.from_json(data)
        if data["fingerprint"] != manifest.fingerprint or data.get(
            "checksum", _checksum(data)
        ) != _checksum(data):
            raise InputError(
                f"{path}: its fingerprint does not fit what it lists; the file was edited, shard "
                "the data again"
            )
        return manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: damaged manifest ({type(error).__name__}: {error}); shard the data again"
        ) from error


def read_index(folder: Path, manifest: ShardManifest) -> ScanIndex:
    """The scan index beside a manifest.  Raises: InputError where it is missing or its SHA-256 does
    not fit."""
    path = folder / INDEX
    if not path.is_file():
        raise InputError(f"{path}: missing; shard the data again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != manifest.index_sha256:
        raise InputError(
            f"{path}: SHA-256 differs from the manifest's; the file is damaged, shard the data "
            "again"
        )
    with np.load(path, allow_pickle=False) as archive:
        return ScanIndex(
            subject=archive["subject"],
            site=archive["site"],
            sites=tuple(str(s) for s in archive["sites"]),
            bei=archive["bei"],
            mean_fd=archive["mean_fd"],
            volumes=archive["volumes"],
            scan=archive["scan"] if "scan" in archive.files else None,
        )
