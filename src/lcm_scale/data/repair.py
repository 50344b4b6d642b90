"""Damaged tars made anew from the store beside them, byte for byte.

Manifest and index say which scans a tar holds and in which order, the store has their matrices, and
equal scans give equal bytes. So a repaired tar has the SHA-256 of the lost one, or is not kept.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from lcm_scale import progress
from lcm_scale.data import store
from lcm_scale.data.manifest import ScanIndex, Shard, ShardManifest, read_index, read_manifest
from lcm_scale.data.shards import write_tar
from lcm_scale.data.store import ScanFacts
from lcm_scale.data.verify import check_file
from lcm_scale.errors import InputError
from lcm_scale.files import sync_folder


def repair_shards(folder: Path) -> tuple[str, ...]:
    """Make a set's missing and damaged tars anew, each in place of the damaged one.

    Returns: their names.
    Raises: InputError where manifest or index are damaged, there is no store, or the store holds
        other scans; whole tars are never touched.
    """
    manifest = read_manifest(folder)
    index = read_index(folder, manifest)
    starts = np.cumsum([0, *(shard.scans for shard in manifest.shards)])
    damaged = []
    with progress.stage(f"check {manifest.name}", manifest.scans) as advance:
        for shard, start in zip(manifest.shards, starts.tolist(), strict=False):
            try:
                check_file(folder / shard.file, shard)
            except InputError:
                damaged.append((shard, start))
            advance(shard.scans)
    if damaged:
        path = folder / f"{manifest.name}.h5"
        try:
            with h5py.File(path, "r") as file:
                _rebuild(folder, manifest, index, store.read(file), damaged)
        except (OSError, KeyError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise InputError(
                f"{path}: the store that tars are made from cannot be read ({reason}); shard the "
                "data again"
            ) from error
    return tuple(shard.file for shard, _ in damaged)


def _rebuild(
    folder: Path,
    manifest: ShardManifest,
    index: ScanIndex,
    content: store.Store,
    damaged: Sequence[tuple[Shard, int]],
) -> None:
    rows = _rows_in_order(folder, manifest, index, content.facts)
    total = sum(shard.scans for shard, _ in damaged)
    with (
        progress.stage(f"repair {manifest.name}", total) as advance,
        tempfile.TemporaryDirectory(prefix=f".{manifest.name}.", dir=folder.parent) as aside,
    ):
        for shard, start in damaged:
            part = slice(start, start + shard.scans)
            facts = [content.facts[row] for row in rows[part]]
            made = write_tar(
                Path(aside) / shard.file,
                content.fc,
                rows[part],
                index.bei[part],
                facts,
                manifest.block,
                start,
            )
            if made != shard:
                raise _other(folder, manifest)
            os.replace(Path(aside) / shard.file, folder / shard.file)
            sync_folder(folder)
            advance(shard.scans)


def _rows_in_order(
    folder: Path, manifest: ShardManifest, index: ScanIndex, facts: Sequence[ScanFacts]
) -> np.ndarray:
    """The store's rows in the order of the index: by person, then session, run and window."""
    number = {subject: n for n, subject in enumerate(manifest.subjects)}

    def place(row: int) -> tuple[int, str, str, int]:
        fact = facts[row]
        return number.get(fact.subject, -1), fact.session, fact.run, fact.window

    rows = sorted(range(len(facts)), key=place)
    if [place(row)[0] for row in rows] != index.subject.tolist():
        raise _other(folder, manifest)
    return np.array(rows)


def _other(folder: Path, manifest: ShardManifest) -> InputError:
    return InputError(
        f"{folder / manifest.name}.h5: holds other scans than the manifest; shard the data again"
    )
