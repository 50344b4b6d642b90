"""The manifest: what a folder of shards holds, enough to split, mix and check it without opening a
tar.

`manifest.json` lies beside the tars; `index.npz` beside it holds one row a scan (subject, labels),
so that a million scans can be split and their labels counted without reading them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale import checked
from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, kind_of
from lcm_scale.config.fields import choices_of
from lcm_scale.data import stored
from lcm_scale.data.context import ContextColumn
from lcm_scale.errors import InputError
from lcm_scale.files import inside
from lcm_scale.identity import HASH_DIGITS
from lcm_scale.vocabulary import Target, Vocabulary

FORMAT = "lcm-scale-shards/1"
MANIFEST = "manifest.json"
INDEX = "index.npz"
# In `quality`: regions without data, by name, and the scans in which they have none.
CONSTANT, BROKEN = "constant regions, in scans", "regions with NaN or inf, in scans"
MOST_SCANS = 2**31 - 1  # the index counts in int32
MOST_BYTES = 2**53
LARGEST_MANIFEST = 2**30  # bytes; a million people take 30 MB
DAMAGED = "damaged manifest", "shard the data again"
_HASHED = re.compile("[0-9a-f]*")


@dataclass(frozen=True)
class Record:
    """One tar record: a block of scans, readable on its own at [offset, offset + bytes) of its
    tar."""

    key: str
    offset: int
    bytes: int
    scans: int


_RECORD = tuple(each.name for each in fields(Record))


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
        context: columns of ``index.npz``'s context, in order.
        quality_sha256: of ``quality.csv``; '' where an older version wrote the set.
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
    context: tuple[ContextColumn, ...] = ()
    quality_sha256: str = ""

    @property
    def kind(self) -> str:
        """The kind of connectivity in words; sets of different words are not mixed unasked."""
        return kind_of(self.connectivity)

    @property
    def missing(self) -> tuple[str, ...]:
        """Regions, by name, that have no data in some scan: rows of zeros there."""
        keys = (CONSTANT, BROKEN)
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
        if self.context:  # as do those without it
            parts.append(json.dumps([column.to_json() for column in self.context]))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        for key in OPTIONAL:  # left out where there is none, as in older sets
            if not data[key]:
                del data[key]
        data.update(
            format=FORMAT,
            atlas=self.atlas.to_json(),
            vocabulary=self.vocabulary.to_json(),
            fingerprint=self.fingerprint,
            **({"context": [each.to_json() for each in self.context]} if self.context else {}),
        )
        data["checksum"] = _checksum(data)
        return data

    @classmethod
    def from_json(cls, data: object) -> ShardManifest:
        """Raises: InputError where the data are not what `to_json` gives, in structure, types and
        bounds."""
        own = checked.members(data, "the file", _KEYS)
        subjects = _subjects(own["subjects"])
        ranks = checked.wholes(own["subject_ranks"], "subject_ranks", 0, len(subjects) - 1)
        if len(ranks) != len(subjects) or np.bincount(ranks).max() > 1:
            raise InputError(f"subject_ranks: expected one for each of {len(subjects)} subjects")
        return cls(
            name=checked.file_name(own["name"], "name"),
            **{key: checked.text(own[key], key) for key in ("cohort", "salt_id")},
            simulated=checked.flag(own["simulated"], "simulated"),
            atlas=Atlas.from_json(own["atlas"]),
            vocabulary=Vocabulary.from_json(own["vocabulary"]),
            connectivity=checked.plain(
                checked.members(own["connectivity"], "connectivity"), "connectivity"
            ),
            dtype=checked.choice(own["dtype"], "dtype", choices_of(ShardRecipe, "dtype")),
            block=checked.whole(own["block"], "block", 1, MOST_SCANS),
            scans=checked.whole(own["scans"], "scans", 1, MOST_SCANS),
            subjects=tuple(subjects),
            subject_ranks=tuple(own["subject_ranks"]),
            shards=checked.entries(own["shards"], "shards", _shard),
            index_sha256=_sha256(own["index_sha256"], "index_sha256"),
            quality=_quality(own["quality"]),
            notes=checked.entries(own["notes"], "notes", checked.text),
            versions=None
            if own["versions"] is None
            else checked.members(own["versions"], "versions", each=checked.text),
            context=_context(own.get("context", [])),
            quality_sha256=_sha256(own["quality_sha256"], "quality_sha256")
            if "quality_sha256" in own
            else "",
        )


OPTIONAL = ("context", "quality_sha256")
_KEYS = tuple(each.name for each in fields(ShardManifest) if each.name not in OPTIONAL)


def _context(value: object) -> tuple[ContextColumn, ...]:
    columns = checked.entries(value, "context", ContextColumn.from_json)
    if len({column.name for column in columns}) < len(columns):
        raise InputError("context: a name stands twice")
    return columns


def _subjects(value: object) -> list[str]:
    subjects = checked.all_of(value, "subjects", str)
    if set(map(len, subjects)) != {HASH_DIGITS} or not _HASHED.fullmatch("".join(subjects)):
        raise InputError(f"subjects: expected hashed ids, {HASH_DIGITS} hexadecimal digits each")
    if len(set(subjects)) != len(subjects):
        raise InputError("subjects: one of them stands twice")
    return subjects


def _sha256(value: object, name: str) -> str:
    digits = checked.text(value, name)
    if len(digits) != 64 or not _HASHED.fullmatch(digits):
        raise InputError(f"{name}: expected a SHA-256")
    return digits


def _quality(value: object) -> dict[str, Any]:
    """Anything, but for the mappings of which it is known that they count."""
    own = checked.plain(checked.members(value, "quality"), "quality")
    for key in ("skipped", CONSTANT, BROKEN):
        for name, count in checked.members(own.get(key, {}), f"quality.{key}").items():
            checked.whole(count, f"quality.{key}.{name}", 0, MOST_SCANS)
    return dict(own)


def _shard(value: object, name: str) -> Shard:
    own = checked.members(value, name, ("file", "bytes", "sha256", "scans", "records"))
    if not isinstance(own["records"], list) or not set(map(type, own["records"])) <= {dict}:
        raise InputError(f"{name}.records: expected a list of objects")
    try:
        columns = {key: [row[key] for row in own["records"]] for key in _RECORD}
    except KeyError as error:
        raise InputError(f"{name}.records: one of them has no {error.args[0]}") from error
    keys = checked.all_of(columns.pop("key"), f"{name}.records: key", str)
    for key, values in columns.items():
        checked.wholes(values, f"{name}.records: {key}", 0, MOST_BYTES)
    return Shard(
        checked.file_name(own["file"], f"{name}.file"),
        checked.whole(own["bytes"], f"{name}.bytes", 0, MOST_BYTES),
        _sha256(own["sha256"], f"{name}.sha256"),
        checked.whole(own["scans"], f"{name}.scans", 1, MOST_SCANS),
        tuple(map(Record, keys, columns["offset"], columns["bytes"], columns["scans"])),
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
        context: float32 (N, columns of `ShardManifest.context`), NaN missing.
    """

    subject: np.ndarray
    site: np.ndarray
    sites: tuple[str, ...]
    bei: np.ndarray
    mean_fd: np.ndarray
    volumes: np.ndarray
    context: np.ndarray
    scan: np.ndarray | None = None


def _checksum(data: Mapping[str, Any]) -> str:
    """Of all that a manifest says: a flipped bit in a subject's hash would move that person to
    another fold."""
    text = json.dumps({k: v for k, v in data.items() if k != "checksum"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> ShardManifest:
    """The manifest of a shard folder.

    Raises: InputError where it is missing, damaged or of another format, or where what it says does
        not agree with itself.
    """
    path = inside(folder, MANIFEST)
    if not path.is_file():
        raise InputError(
            f"{folder}: no {MANIFEST}; write shards with `lcm-scale shard`, or name their folder"
        )
    with checked.damage_named(path, *DAMAGED):
        data = checked.read_object(path, LARGEST_MANIFEST)
    if data.get("format") != FORMAT:
        found = str(data.get("format"))[:60]
        raise InputError(f"{path}: format '{found}', this version reads '{FORMAT}'")
    with checked.damage_named(path, *DAMAGED):
        manifest = ShardManifest.from_json(data)
    if data.get("fingerprint") != manifest.fingerprint or (
        "checksum" in data and data["checksum"] != _checksum(data)
    ):
        raise InputError(
            f"{path}: its fingerprint does not fit what it lists; the file was edited, shard "
            "the data again"
        )
    with checked.damage_named(path, *DAMAGED):
        _check_layout(manifest)
    return manifest


def _check_layout(manifest: ShardManifest) -> None:
    """That tars, records and scans are as many and as long as each other say, so that nobody takes
    memory for more than is there.

    Raises: InputError.
    """
    edges = manifest.atlas.n_edges * np.dtype(manifest.dtype).itemsize
    smallest = edges + 4 * len(manifest.vocabulary.targets)  # bytes of a scan in a record
    if len({shard.file for shard in manifest.shards}) != len(manifest.shards):
        raise InputError("shards: a file is listed twice")
    for shard in manifest.shards:
        offset, size, scans = (
            np.fromiter((getattr(record, name) for record in shard.records), np.int64)
            for name in ("offset", "bytes", "scans")
        )
        end = offset + size
        if scans.sum() != shard.scans or scans.min(initial=1) < 1:
            raise InputError("counts of scans do not agree")
        if (offset[1:] < end[:-1]).any() or end.max(initial=0) > shard.bytes:
            raise InputError(f"{shard.file}: its records overlap, or end behind it")
        if scans.max() > manifest.block or (size // smallest < scans).any():
            raise InputError(f"{shard.file}: a record of more scans than it has room for")
    if sum(shard.scans for shard in manifest.shards) != manifest.scans:
        raise InputError("counts of scans do not agree")


def read_index(folder: Path, manifest: ShardManifest) -> ScanIndex:
    """The scan index beside a manifest.

    Raises: InputError where it is missing, its SHA-256 does not fit, or it does not hold what the
        manifest says.
    """
    path = inside(folder, INDEX)
    if not path.is_file():
        raise InputError(f"{path}: missing; shard the data again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != manifest.index_sha256:
        raise InputError(
            f"{path}: SHA-256 differs from the manifest's; the file is damaged, shard the data "
            "again"
        )
    n, targets = manifest.scans, manifest.vocabulary.targets
    width = len(manifest.context)
    with checked.damage_named(path, "not what the manifest says", "shard the data again"):
        arrays = stored.npz(
            data,
            {
                "subject": ("<i4", (n,)),
                "site": ("<i4", (n,)),
                "sites": ("<U", (None,)),
                "bei": ("<f4", (n, len(targets))),
                "mean_fd": ("<f4", (n,)),
                "volumes": ("<i4", (n,)),
                **({"context": ("<f4", (n, width))} if width else {}),
            },
            optional={"scan": ("<i4", (n,))},
        )
        sites = tuple(checked.text(site, "sites") for site in arrays.pop("sites").tolist())
        _within(arrays["subject"], "subject", 0, len(manifest.subjects) - 1)
        _within(arrays["site"], "site", -1, len(sites) - 1)
        _within(arrays["volumes"], "volumes", 0, 2**31 - 1)
        _within(arrays.get("scan", np.zeros(1)), "scan", 0, n - 1)
        for column, target in zip(arrays["bei"].T, targets, strict=True):
            _check_labels(column, target)
        arrays.setdefault("context", np.empty((n, 0), np.float32))
        for values, described in zip(arrays["context"].T, manifest.context, strict=True):
            described.check(values)
    return ScanIndex(sites=sites, **arrays)


def _within(values: np.ndarray, name: str, low: int, high: int) -> None:
    if not low <= values.min() <= values.max() <= high:
        raise InputError(f"{name}: expected numbers from {low} to {high}")


def _check_labels(column: np.ndarray, target: Target) -> None:
    """Raises: InputError where a label is none of the target's."""
    known = column[~np.isnan(column)]
    if target.is_class:
        right = (known >= 0) & (known < target.n_tokens) & (known == np.floor(known))
    else:
        right = np.isfinite(known) & ((known > 0) | (not target.log))
    if not right.all():
        raise InputError(f"bei: a label of {target.name} is not in the vocabulary")
