"""Scans of which a model is asked, from wherever they lie: files that `lcm-scale new` or a shard
recipe describes, or a shard set.

In: a path, and what the model's meaning says that it was trained on. Out: `Incoming`, edges in the
data's own order of regions beside what is known of each scan. Labels are left alone, but for
columns of context that the model takes. Nothing is written.
Shapes: n scans, E edges, J columns of context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale import config, progress
from lcm_scale.atlas import Atlas, load_atlas
from lcm_scale.config import DataConfig, ShardRecipe, expand, parameters
from lcm_scale.config.check import check_section
from lcm_scale.data import reading
from lcm_scale.data.collect import Listed, list_scans
from lcm_scale.data.connectivity import check_connectivity
from lcm_scale.data.given import given_to
from lcm_scale.data.manifest import MANIFEST, ShardManifest, read_index, read_manifest
from lcm_scale.data.naming import named_by_files
from lcm_scale.data.pool import in_order
from lcm_scale.data.quality_table import read_table
from lcm_scale.data.readers import brings_its_files
from lcm_scale.data.recordings import Skipped, Unread
from lcm_scale.data.sets import open_sets
from lcm_scale.data.stream import open_edges
from lcm_scale.errors import InputError
from lcm_scale.identity import hash_scan, hash_subject, normalised, project_salt, salt_id
from lcm_scale.layouts import recognised
from lcm_scale.layouts.found import Found
from lcm_scale.linear.context import KnownColumn
from lcm_scale.weights.meaning import Meaning

RECIPES = (".yaml", ".yml")
MEASURED = ("volumes", "tr", "mean_fd", "regions_without_data", "spikes", "mean_abs_r")
# How the training matrices were made, which a folder's series follow unless told otherwise. Random
# windows are for training, and what was accepted or dropped is the other atlas's affair.
NOT_FOLLOWED = ("random_windows", "random_seed", "accept_missing", "drop_regions")


@dataclass(frozen=True)
class Named:
    """Who a scan is of.

    Attributes:
        subject, scan: hashed.
        raw, file: the id and file as the user has them, '' in a shard set.
        elsewhere: hashes of the same id in the studies that the model was trained on, where the
            scans are not said to be of one of them.
    """

    subject: str
    scan: str
    session: str
    run: str
    window: int
    raw: str = ""
    file: str = ""
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """What is known of scans before one of them is read.

    Attributes: name, atlas, connectivity: as of `Incoming`.   made: whether their matrices are.
    """

    name: str
    atlas: Atlas
    connectivity: Mapping[str, Any]
    made: bool


@dataclass(frozen=True)
class Files:
    """Scans that are listed, their files not opened.

    Attributes: recipe: of their reader, without labels that the model is not told.
        atlas: of the files.
    """

    recipe: ShardRecipe
    atlas: Atlas
    listed: Listed

    @property
    def kept(self) -> Kept:
        connectivity = self.recipe.connectivity
        name = f"{len(self.listed.scans)} scans of the reader {self.recipe.reader}"
        atlas = self.atlas.without(connectivity.drop_regions)
        return Kept(name, atlas, parameters(connectivity), False)


@dataclass(frozen=True)
class Shards:
    """A shard set.  Attributes: folder: where it lies."""

    folder: Path
    manifest: ShardManifest

    @property
    def kept(self) -> Kept:
        own = self.manifest
        return Kept(f"shard set {own.name}", own.atlas, own.connectivity, True)


@dataclass(frozen=True)
class Incoming:
    """Scans, read.

    Attributes:
        names: one a scan.   salt_id: of their hashes.
        edges: (n, E) in the data's own order of regions.
        told: float (n, J) what the model is told of them, NaN where not known.
        measured: of `MEASURED`, float (n,) each, NaN unknown.
        skipped: what was left out, and why.   remarks: of files -> how many scans.
        simulated: whether any scan is of no person.
    """

    names: tuple[Named, ...]
    salt_id: str
    edges: np.ndarray
    told: np.ndarray
    measured: Mapping[str, np.ndarray]
    skipped: tuple[Skipped, ...] = ()
    remarks: Mapping[str, int] = field(default_factory=dict)
    simulated: bool = False


def listed(path: Path, overrides: Sequence[str], meaning: Meaning) -> Files | Shards:
    """What a path holds; no scan is opened.

    Args:
        overrides: `key=value` of the shard recipe; none for a shard set.
    Raises: InputError where nothing is known there, or its reader cannot list it.
    """
    if (path / MANIFEST).is_file():
        if overrides:
            raise InputError(
                f"'{overrides[0]}': {path} is a shard set, whose matrices are made; key=value is "
                "for files and recipes"
            )
        return Shards(path, read_manifest(path))
    if path.suffix in RECIPES:
        recipe = config.load(ShardRecipe, path, overrides)
        atlas = load_atlas(str(expand(recipe.atlas)))
    else:
        recipe, atlas = _recognised(path, overrides, meaning)
    recipe = _untold(recipe, meaning.context)
    check_section(asdict(recipe), ShardRecipe, str(path), final=True)
    check_connectivity(recipe.connectivity, atlas)
    if brings_its_files(recipe):
        raise InputError(f"{path}: reader {recipe.reader} makes its scans; shard them first")
    found = list_scans(recipe, atlas)
    if not found.scans:
        raise InputError(f"{path}: no usable scan is listed")
    return Files(recipe, named_by_files(atlas, found.scans), found)


def read(found: Files | Shards, meaning: Meaning, jobs: int | None = None) -> Incoming:
    """Open the files, or the set.

    Args: jobs: processes that read, None: as many as help.
    Raises: InputError for a file that cannot be used, as `shard` does.
    """
    if isinstance(found, Shards):
        return _read_set(found.folder, meaning)
    return _read_files(found, meaning, jobs)


# -- a folder, or a table --------------------------------------------------------------------------


def _recognised(
    path: Path, overrides: Sequence[str], meaning: Meaning
) -> tuple[ShardRecipe, Atlas]:
    """The recipe of a layout that is known, and the regions of its files."""
    found = recognised(path)
    said = {"name": "scans", "reader": found.reader} | {
        f"source.{key}": value for key, value in found.source.items()
    }
    if found.connectivity:
        said["connectivity.kind"] = found.connectivity
    elif found.source.get("kind", "series") == "series":
        said |= _as_trained(meaning)
    lines = [config.override(key, value) for key, value in said.items()]
    recipe = config.load(ShardRecipe, None, [*lines, *overrides])
    if any(line.startswith("atlas=") for line in overrides):
        return recipe, load_atlas(str(expand(recipe.atlas)))
    recipe.atlas = found.regions.atlas or "regions"
    return recipe, _regions(path, found, meaning.atlas)


def _regions(path: Path, found: Found, model: Atlas) -> Atlas:
    """Of a layout's files. Columns with names or codes are brought into the model's own order."""
    regions = found.regions
    if regions.question:
        raise InputError(
            f"{path}: {regions.why}; {regions.question} Say atlas=NAME (the model's is "
            f"{model.name})"
        )
    if not regions.atlas:
        if set(regions.names) == set(model.names) and len(set(model.names)) == model.n_regions:
            return model
        raise InputError(
            f"{path}: {regions.why}, {len({*regions.names} & {*model.names})} of them among the "
            f"model's {model.n_regions} ({model.name}); say atlas=NAME or its table"
        )
    atlas = load_atlas(regions.atlas)
    same = {*zip(atlas.indices, atlas.names, strict=True)}
    return model if same == {*zip(model.indices, model.names, strict=True)} else atlas


def _as_trained(meaning: Meaning) -> dict[str, Any]:
    """`connectivity.` keys of the matrices that the model was trained on, where all its sets agree
    on them."""
    sets = [facts["connectivity"] for facts in meaning.data]
    usual = parameters(ShardRecipe().connectivity)
    return {
        f"connectivity.{key}": value
        for key, value in (sets[0] if sets else {}).items()
        if all(each.get(key) == value for each in sets)
        and key.partition(".")[0] not in NOT_FOLLOWED
        and usual.get(key) != value
    }


# -- files -----------------------------------------------------------------------------------------


def _untold(recipe: ShardRecipe, context: Sequence[KnownColumn]) -> ShardRecipe:
    """Without every label that the model is not told; those that it is are optional."""
    wanted = {column.name for column in context}
    kept = {
        key: [replace(e, optional=True) for e in getattr(recipe, key) if e.name in wanted]
        for key in ("groups", "scalars", "context")
    }
    return replace(recipe, age_log=False, **kept)  # type: ignore[arg-type]


def _read_files(found: Files, meaning: Meaning, jobs: int | None) -> Incoming:
    recipe, atlas, scans = found.recipe, found.atlas, found.listed.scans
    salt = project_salt()
    studies = meaning.cohort.studies if meaning.cohort else ()
    skipped, remarks = list(found.listed.skipped), Counter[str]()
    rows: list[tuple[tuple[str, str, str, int], Named, reading.Piece, list[float], Unread]] = []
    work = partial(reading.read, recipe=recipe, atlas=atlas)
    with (
        progress.stage("read", len(scans)) as advance,
        closing(in_order(work, [replace(scan, labels={}) for scan in scans], jobs)) as done,
    ):
        for scan, labels, one in zip(scans, found.listed.labels, done, strict=True):
            advance()
            if isinstance(one, Skipped):
                skipped.append(one)
                continue
            for piece in one.pieces:
                if isinstance(piece, Skipped):
                    skipped.append(piece)
                    continue
                remarks.update([*scan.remarks, *one.remarks, *filter(None, [piece.remark])])
                key = (normalised(scan.subject), scan.session, scan.run, piece.window)
                named = _named(salt, scan, piece.window, studies)
                rows.append((key, named, piece, _told(meaning.context, scan, labels), scan))
    if not rows:
        said = Counter(skip.why for skip in skipped)
        raise InputError(
            f"{recipe.name}: no usable scan ({'; '.join(f'{n} {why}' for why, n in said.items())})"
        )
    rows.sort(key=lambda row: row[0])
    measured = [_measured(row[4], row[2]) for row in rows]
    return Incoming(
        names=tuple(row[1] for row in rows),
        salt_id=salt_id(salt),
        edges=np.stack([row[2].triangle for row in rows]),
        told=np.array([row[3] for row in rows]).reshape(len(rows), len(meaning.context)),
        measured={name: np.array([m[name] for m in measured]) for name in MEASURED},
        skipped=tuple(skipped),
        remarks=remarks,
        simulated=any(scan.simulated for scan in scans),
    )


def _named(salt: bytes, scan: Unread, window: int, studies: Sequence[str]) -> Named:
    study = scan.cohort
    return Named(
        subject=hash_subject(salt, study, scan.subject),
        scan=hash_scan(salt, study, scan.subject, scan.session, scan.run, window),
        session=scan.session,
        run=scan.run,
        window=window,
        raw=scan.subject,
        file=Path(scan.source).name,
        elsewhere=()
        if study in studies
        else tuple(hash_subject(salt, each, scan.subject) for each in studies),
    )


def _told(
    context: Sequence[KnownColumn], scan: Unread, labels: Mapping[str, str | None]
) -> list[float]:
    """In the model's codes, NaN where not known, or known by a word that the model does not have.

    Args: labels: of the recipe; what it does not name is looked up in the scan's own table.
    """
    own = {name.casefold(): value for name, value in scan.labels.items()}
    own |= {
        name: None if value is None else str(value)
        for name in ("site", "age", "sex", "tr", "mean_fd", "session", "run")
        if (value := getattr(scan, name)) or name not in own
    }
    found = []
    for column in context:
        word = labels[column.name] if column.name in labels else own.get(column.name.casefold())
        found.append(_code(column, word))
    return found


def _code(column: KnownColumn, word: str | None) -> float:
    if not word:
        return np.nan
    if column.categories:
        known = column.categories
        return float(known.index(word)) if word in known else np.nan
    try:
        return float(word)
    except ValueError:
        raise InputError(
            f"context '{column.name}': expected a number, found '{word[:40]}'"
        ) from None


def _measured(scan: Unread, piece: reading.Piece) -> dict[str, float]:
    def number(value: float | None) -> float:
        return np.nan if value is None else float(value)

    return {
        "volumes": piece.volumes or np.nan,
        "tr": number(scan.tr),
        "mean_fd": number(scan.mean_fd),
        "regions_without_data": len({*piece.constant, *piece.not_finite}),
        "spikes": piece.spikes if piece.spikes >= 0 else np.nan,
        "mean_abs_r": piece.mean_abs_r,
    }


# -- a shard set -----------------------------------------------------------------------------------


def _read_set(folder: Path, meaning: Meaning) -> Incoming:
    """Its labels are not looked at, but for columns that the model takes."""
    sets = open_sets(DataConfig(sets=[str(folder.resolve())], shards_dir=str(folder.parent)))
    (manifest,) = sets.manifests
    scans = np.arange(sets.n_scans)
    index = read_index(folder, manifest)
    table = read_table(folder, manifest, index)
    nothing = np.full(len(scans), np.nan)
    numbers = (
        table.numbers if table else {"volumes": np.where(index.volumes, index.volumes, np.nan)}
    )
    known = {name: numbers.get(name, nothing) for name in MEASURED}
    if table:
        known["regions_without_data"] = numbers["constant_regions"] + numbers["broken_regions"]
    names = [
        Named(sets.subjects[subject], table.scans[scan] if table else "", "", "", 0)
        for scan, subject in enumerate(sets.subject)
    ]
    return Incoming(
        names=tuple(names),
        salt_id=manifest.salt_id,
        edges=open_edges(sets, DataConfig().resident_gb).gather(scans),
        told=given_to(meaning.context, sets, scans),
        measured=known,
        simulated=manifest.simulated,
    )
