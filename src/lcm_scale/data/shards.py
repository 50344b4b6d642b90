"""The store to shards: webdataset tars of whole blocks, a scan index and a manifest.

`collect.py` fills the store from raw files; the format is in shards/README.md. Scans stand in the
order of their raw subject ids, which are then forgotten. Equal input gives equal bytes. A set is
built aside and renamed once, so that a folder with a manifest is whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import webdataset as wds

import lcm_scale
from lcm_scale import plugins, progress
from lcm_scale.atlas import Atlas, load_atlas
from lcm_scale.config import ShardRecipe, expand, parameters
from lcm_scale.config.check import check_section
from lcm_scale.data import store
from lcm_scale.data.building import building, check_nobody_builds
from lcm_scale.data.collect import (
    ReadSummary,
    ask_about_missing_regions,
    fill_store,
    report_odd,
)
from lcm_scale.data.connectivity import check_connectivity
from lcm_scale.data.context import encoded_context
from lcm_scale.data.duplicates import check_same_person
from lcm_scale.data.fingerprints import Pair, Scans, alike_within
from lcm_scale.data.manifest import INDEX, MANIFEST, Record, Shard, ShardManifest
from lcm_scale.data.quality import judge, unknown_notes
from lcm_scale.data.quality_table import TABLE, table_text
from lcm_scale.data.readers.people import check_people
from lcm_scale.data.store import QUALITY, ScanFacts
from lcm_scale.data.targets import check_names, encoded, left_out, vocabulary_of
from lcm_scale.errors import InputError
from lcm_scale.files import sha256, write_atomic
from lcm_scale.identity import project_salt, salt_id
from lcm_scale.terminal import print

ALIKE = "pairs of people with nearly the same scan"
MOST_PRODUCTS_AT_SHARDING = 2e11  # seconds; a larger set is compared by `inspect --duplicates`


def write_shards(recipe: ShardRecipe, jobs: int | None = 1) -> ShardManifest:
    """Read a recipe's raw files and write its shard set to shards_dir/name, in place of an earlier
    one of that name.

    Args: jobs: processes that read, None: as many as help. A program that asks for more than one
        starts its own work under `if __name__ == "__main__"`, as for any of `multiprocessing`'s.
    Raises: InputError naming file, row or key. Then nothing is left behind, but what was read in
        more than some seconds, from which the next call goes on, as it does after a kill.
    """
    folder, atlas = prepare_shards(recipe)
    with building(folder) as place:
        aside = place.aside
        summary = fill_store(recipe, atlas, aside / f"{recipe.name}.h5", place.journal, jobs)
        kept = summary.atlas
        quality = _leave_bad_ones_out(recipe, aside, summary)
        ask_about_missing_regions(recipe, kept, summary)
        report_odd(summary, recipe, kept)
        with h5py.File(aside / f"{recipe.name}.h5", "r") as file:
            manifest = write_set(recipe, kept, store.read(file), summary, aside)
        manifest = replace(manifest, quality_sha256=quality)
        text = json.dumps(manifest.to_json(), indent=1, ensure_ascii=False)
        write_atomic(aside / MANIFEST, text.encode())
    return manifest


def _leave_bad_ones_out(recipe: ShardRecipe, folder: Path, summary: ReadSummary) -> str:
    """Apply the recipe's thresholds to the store, and write the table of all scans.

    Returns: the table's SHA-256.
    """
    path = folder / f"{recipe.name}.h5"
    with h5py.File(path, "r") as file:
        content = store.read(file)
        judged = judge(recipe.name, content, recipe.quality)
    order = sorted(range(len(summary.keys)), key=summary.keys.__getitem__)
    table = table_text(content.facts, judged, order).encode()
    write_atomic(folder / TABLE, table)
    if any(judged.reasons):
        summary.leave_out(judged.reasons)
        store.keep(path, np.flatnonzero([not why for why in judged.reasons]))
    return hashlib.sha256(table).hexdigest()


def prepare_shards(recipe: ShardRecipe) -> tuple[Path, Atlas]:
    """Where a set goes and its regions, as far as that can be known before raw files are read.

    Raises: InputError for a value that means nothing, an unknown atlas, a folder in the way,
        or another process that is building this set.
    """
    check_section(asdict(recipe), ShardRecipe, "shard recipe", final=True)
    if not recipe.name:
        raise InputError("name is empty: the set's folder is shards_dir/name")
    check_names(recipe)
    check_people(recipe.source)
    check_same_person(recipe.source)
    folder = expand(recipe.shards_dir) / recipe.name
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: exists and holds no shard set; it is left alone, choose another name or "
            "shards_dir"
        )
    atlas = load_atlas(str(expand(recipe.atlas)))
    check_connectivity(recipe.connectivity, atlas)
    check_nobody_builds(folder)
    return folder, atlas


def write_set(
    recipe: ShardRecipe, atlas: Atlas, content: store.Store, summary: ReadSummary, folder: Path
) -> ShardManifest:
    """Write a store's scans as tars and index into `folder`, in the order of their raw ids.

    Returns: their manifest, for the caller to write last.  Raises: InputError for labels that the
        recipe does not know.
    """
    order = np.array(sorted(range(len(summary.keys)), key=summary.keys.__getitem__))
    vocabulary = vocabulary_of(recipe, content)
    bei = encoded(vocabulary, content)[order]
    columns, context = encoded_context(recipe, content.labels, len(content.facts))
    arrays = {"context": context[order]} if columns else {}
    facts = [content.facts[i] for i in order]
    subjects = tuple(dict.fromkeys(fact.subject for fact in facts))
    shards = []
    with progress.stage(f"write {recipe.name}", len(order)) as advance:
        for number, start in enumerate(range(0, len(order), recipe.shard_scans)):
            part = slice(start, min(start + recipe.shard_scans, len(order)))
            file = folder / f"{recipe.name}-{number:06d}.tar"
            shards.append(
                write_tar(
                    file, content.fc, order[part], bei[part], facts[part], recipe.block, start
                )
            )
            advance(part.stop - part.start)
    windowed = recipe.connectivity.window is not None
    index = _write_index(folder / INDEX, facts, subjects, bei, windowed, arrays)
    alike = _alike(content, order, facts, summary)
    return ShardManifest(
        name=recipe.name,
        cohort=recipe.cohort or recipe.name,
        salt_id=salt_id(project_salt()),
        simulated=summary.simulated,
        atlas=atlas,
        vocabulary=vocabulary,
        connectivity=parameters(recipe.connectivity),
        dtype=recipe.dtype,
        block=recipe.block,
        scans=len(order),
        subjects=subjects,
        subject_ranks=tuple(range(len(subjects))),
        shards=tuple(shards),
        index_sha256=index,
        quality=summary.quality(atlas) | ({ALIKE: len(alike)} if alike else {}),
        notes=(
            *recipe.notes,
            *left_out(recipe, [*vocabulary.names, *(column.name for column in columns)]),
            *summary.notes(),
            *unknown_notes(facts, recipe.quality),
            *_alike_note(alike),
        ),
        versions={
            "lcm_scale": lcm_scale.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            **plugins.used(),
        },
        context=columns,
    )


def _alike(
    content: store.Store, order: np.ndarray, facts: Sequence[ScanFacts], summary: ReadSummary
) -> list[Pair]:
    """People who are probably one, named on the terminal only: these are raw ids."""
    pairs = alike_within(_in_order(content, order, facts), MOST_PRODUCTS_AT_SHARDING) or []
    raw = {fact.subject: summary.keys[i][0] for fact, i in zip(facts, order, strict=True)}
    for pair in pairs:
        print(
            f"nearly the same scan (r {pair.r:.2f}), probably one person under two ids: "
            f"{raw[pair.first]} and {raw[pair.second]}",
            file=sys.stderr,
        )
    return pairs


def _in_order(content: store.Store, order: np.ndarray, facts: Sequence[ScanFacts]) -> Scans:
    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(order), 1024):
            yield _matrices(content.fc, order[start : start + 1024])

    return Scans(blocks, [fact.subject for fact in facts])


def _matrices(fc: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    """Rows of a store's matrices in any order; HDF5 reads them in ascending order only."""
    ascending = np.argsort(rows)
    matrices = np.empty((len(rows), fc.shape[1]), dtype=fc.dtype)
    matrices[ascending] = fc[rows[ascending]]
    return matrices


def _alike_note(pairs: Sequence[Pair]) -> list[str]:
    if not pairs:
        return []
    return [
        f"Pairs of people with nearly the same scan, probably one person under two ids: "
        f"{len(pairs)} (r {pairs[-1].r:.2f} or more; `lcm-scale inspect --duplicates` names them)."
    ]


def write_tar(
    path: Path,
    fc: h5py.Dataset,
    rows: np.ndarray,
    bei: np.ndarray,
    facts: Sequence[ScanFacts],
    block: int,
    first: int,
) -> Shard:
    """One tar of records, through webdataset's writer; times and owners are fixed, so equal scans
    give equal bytes.

    Args:
        path: `<set>-<number>.tar`; records are named after the set.
        fc: a store's matrices.   rows: of the scans of this tar, in its order.
        bei, facts: of the same scans.   first: the position of the first in the set.
    """
    name = path.stem.rpartition("-")[0]
    records = []
    with open(path, "wb") as handle:
        writer = wds.TarWriter(handle, user="", group="", mode=0o644, encoder=False, mtime=0)
        for start in range(0, len(rows), block):
            part = slice(start, min(start + block, len(rows)))
            matrices = _matrices(fc, rows[part])
            key = f"{name}-{first + start:09d}"
            offset = writer.tarstream.offset
            writer.write(
                {
                    "__key__": key,
                    "fc.npy": _npy(matrices),
                    "bei.npy": _npy(bei[part]),
                    "meta.json": json.dumps(
                        [_meta(fact) for fact in facts[part]], ensure_ascii=False
                    ).encode(),
                }
            )
            records.append(Record(key, offset, writer.tarstream.offset - offset, len(matrices)))
        writer.close()
        handle.flush()
        os.fsync(handle.fileno())
    return Shard(path.name, path.stat().st_size, sha256(path), len(rows), tuple(records))


def _meta(fact: ScanFacts) -> dict[str, Any]:
    """A scan's facts as JSON; NaN is null. What newer stores know beside them stays out, so that
    equal scans give equal tars for ever: it is in the table."""
    return {
        key: None if isinstance(value, float) and np.isnan(value) else value
        for key, value in asdict(fact).items()
        if key not in QUALITY
    }


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _write_index(
    path: Path,
    facts: Sequence[ScanFacts],
    subjects: Sequence[str],
    bei: np.ndarray,
    windowed: bool,
    more: Mapping[str, np.ndarray],
) -> str:
    """`index.npz` without numpy's time stamps.

    Args: more: further arrays by name.
    Returns: its SHA-256.
    """
    number = {subject: i for i, subject in enumerate(subjects)}
    sites = sorted({fact.site for fact in facts if fact.site})
    arrays = {
        "subject": np.array([number[fact.subject] for fact in facts], np.int32),
        "site": np.array([sites.index(fact.site) if fact.site else -1 for fact in facts], np.int32),
        "sites": np.array(sites, dtype=np.str_),
        "bei": bei,
        "mean_fd": np.array([fact.mean_fd for fact in facts], np.float32),
        "volumes": np.array([fact.volumes for fact in facts], np.int32),
        **more,
    }
    if windowed:  # else each row is a scan of its own
        scans = [(fact.subject, fact.session, fact.run) for fact in facts]
        place = {scan: i for i, scan in enumerate(dict.fromkeys(scans))}
        arrays["scan"] = np.array([place[scan] for scan in scans], np.int32)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), _npy(array))
    write_atomic(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()
