"""Shard sets opened together: their scans numbered through, their labels in one vocabulary, their
regions in one order.

In: folders with manifests. Out: `ShardSets`, arrays with one row a scan. No tar is opened here;
splitting, mixing, label counts and loss weights need the indices alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lcm_scale.atlas import Atlas, edge_order
from lcm_scale.config import DataConfig, expand
from lcm_scale.data.context import ContextColumn, united
from lcm_scale.data.manifest import (
    Record,
    ScanIndex,
    Shard,
    ShardManifest,
    read_index,
    read_manifest,
)
from lcm_scale.data.order import mix
from lcm_scale.errors import InputError, nearest
from lcm_scale.files import inside
from lcm_scale.vocabulary import Target, Vocabulary, merge, recode


@dataclass(frozen=True)
class RecordPlace:
    """One tar record: where its bytes lie, and which scans (numbers in `ShardSets`) it holds."""

    path: Path
    shard: Shard
    record: Record
    first_scan: int
    set_number: int


@dataclass(frozen=True)
class ShardSets:
    """All scans of a run, numbered 0..N-1: set by set, in manifest order.

    Attributes:
        manifests, folders: one a set.
        atlas: the order that all matrices are brought into.
        edge_orders: per set the edge permutation into `atlas`, or None where it is there already.
        renames: per set, and for the checkpoint that the run goes on from: own target name -> name
            in `vocabulary`.
        vocabulary: of the run.   labels: float32 (N, C) in its codes, NaN missing.
        set_number, subject, block: int64 (N,).   site: int64 (N,), -1 unknown.
        scan: int64 (N,) the same number for the windows of one scan, -1 where a set of windows
            does not say which belong together.
        subjects: hashed ids; one person has one number, also over several sets.
        subject_ranks: int64 (S,) position among the sorted raw ids of the (first) set that holds
            the subject.
        context: float32 (N, K) what is known of a scan's surroundings, in the codes of
            `context_columns`, NaN missing; no target, and no token.
        unasked: of each set, the targets that `data.targets` leaves out, and their float32 values
            in the target's own codes.
        groups: int64 (N,) of each scan who is kept together with its person (`data.kin`), named by
            the lowest of their numbers; None: everybody stands alone.
    """

    manifests: tuple[ShardManifest, ...]
    folders: tuple[Path, ...]
    atlas: Atlas
    edge_orders: tuple[np.ndarray | None, ...]
    vocabulary: Vocabulary
    renames: tuple[dict[str, str], ...]
    pretrained_renames: dict[str, str]
    labels: np.ndarray
    set_number: np.ndarray
    subject: np.ndarray
    subjects: tuple[str, ...]
    subject_ranks: np.ndarray
    scan: np.ndarray
    site: np.ndarray
    sites: tuple[str, ...]
    block: np.ndarray
    blocks: tuple[RecordPlace, ...]
    context: np.ndarray
    context_columns: tuple[ContextColumn, ...]
    unasked: tuple[tuple[tuple[Target, np.ndarray], ...], ...]
    groups: np.ndarray | None = None

    @property
    def together(self) -> np.ndarray:
        """int64 (N,) who must stand on one side of a split: a person, or the lowest number of those
        who are kept together with it."""
        return self.subject if self.groups is None else self.groups

    @property
    def n_scans(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.manifests)

    @property
    def simulated(self) -> bool:
        return any(m.simulated for m in self.manifests)

    @property
    def fingerprints(self) -> dict[str, str]:
        return {m.name: m.fingerprint for m in self.manifests}

    def scans_of(self, names: Sequence[str]) -> np.ndarray:
        """Numbers of the scans of the named sets (all where none is named).  Raises: InputError."""
        for name in names:
            if name not in self.names:
                raise InputError(
                    f"set '{name}' is not in data.sets "
                    f"({', '.join(self.names)}){nearest(name, self.names)}"
                )
        wanted = [i for i, name in enumerate(self.names) if name in names or not names]
        return np.flatnonzero(np.isin(self.set_number, wanted))

    def kinds_of(self, scans: np.ndarray) -> tuple[str, ...]:
        """The kinds of connectivity of these scans' matrices, each once."""
        return tuple(
            dict.fromkeys(self.manifests[i].kind for i in np.unique(self.set_number[scans]))
        )

    def subject_hashes(self, scans: np.ndarray) -> list[str]:
        """Sorted hashed ids of the people in these scans."""
        return sorted(self.subjects[s] for s in np.unique(self.subject[scans]))


def set_folder(name: str, shards_dir: str) -> Path:
    """A set by name under `shards_dir`, or by path.  Raises: InputError naming the nearest set."""
    below = expand(shards_dir) / name
    for folder in (below, expand(name)):
        if folder.is_dir():
            return folder
    present = [p.name for p in expand(shards_dir).glob("*") if (p / "manifest.json").is_file()]
    listed = f" (there: {', '.join(sorted(present))})" if present else ""
    recipe = name.replace("-", "_")  # as ours are named
    raise InputError(
        f"data.sets: no shards in {below}{nearest(name, present)}{listed}; write them with "
        f"`lcm-scale shard recipes/data/{recipe}.yaml`"
    )


def open_sets(
    config: DataConfig, atlas: Atlas | None = None, pretrained: tuple[str, Vocabulary] | None = None
) -> ShardSets:
    """Open the sets of a recipe.

    Args:
        atlas: bring every set into this order (a checkpoint's); None: the first set's.
        pretrained: name and vocabulary of a checkpoint to go on from: its targets stand first and
            all stay.
    Raises: InputError for a missing set, another atlas, a region order that `data.reorder` does not
        allow, different kinds of connectivity that `data.mix_kinds` does not allow, or an unknown
        target in `data.targets`.
    """
    if not config.sets:
        raise InputError("data.sets is empty: name at least one shard set, for example data=abide")
    folders = tuple(set_folder(name, config.shards_dir) for name in config.sets)
    manifests = tuple(read_manifest(folder) for folder in folders)
    _check_names(manifests)
    indices = list(map(read_index, folders, manifests))
    _check_salts(manifests)
    _check_kinds(manifests, config)
    target_atlas = atlas or manifests[0].atlas
    must_match = atlas is not None and not config.reorder
    orders = tuple(_edge_order(m, target_atlas, must_match) for m in manifests)
    _check_targets(config, manifests)
    merged = merge(([pretrained] if pretrained else []) + _chosen(config, manifests))
    vocabulary, renames = merged.vocabulary, merged.renames[1 if pretrained else 0 :]
    labels = [
        recode(index.bei, m.vocabulary, names, vocabulary)
        for index, m, names in zip(indices, manifests, renames, strict=True)
    ]
    subjects, ranks, subject = _numbered_subjects(manifests, indices)
    sites, site = _numbered_sites(indices)
    blocks, block = _blocks(manifests, folders)
    columns, context = united(
        [(m.name, m.context, i.context) for m, i in zip(manifests, indices, strict=True)]
    )
    return ShardSets(
        manifests=manifests,
        folders=folders,
        atlas=target_atlas,
        edge_orders=orders,
        vocabulary=vocabulary,
        renames=renames,
        pretrained_renames=merged.renames[0] if pretrained else {},
        labels=np.concatenate(labels),
        set_number=np.repeat(np.arange(len(manifests)), [m.scans for m in manifests]),
        subject=subject,
        subjects=subjects,
        subject_ranks=ranks,
        scan=_numbered_scans(manifests, indices),
        site=site,
        sites=sites,
        block=block,
        blocks=blocks,
        context=context,
        context_columns=columns,
        unasked=tuple(_unasked(m, i, config) for m, i in zip(manifests, indices, strict=True)),
    )


def _numbered_subjects(
    manifests: Sequence[ShardManifest], indices: Sequence[ScanIndex]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Hashed ids in the order of their first set, the rank of each, and each scan's number."""
    numbers: dict[str, int] = {}
    ranks, of_scans = [], []
    for manifest, index in zip(manifests, indices, strict=True):
        known = len(numbers)
        # One pass: there may be a million people.
        own = np.array([numbers.setdefault(name, len(numbers)) for name in manifest.subjects])
        ranks.append(np.array(manifest.subject_ranks, dtype=np.int64)[own >= known])
        of_scans.append(own[index.subject])
    return tuple(numbers), np.concatenate(ranks), np.concatenate(of_scans)


def _numbered_sites(indices: Sequence[ScanIndex]) -> tuple[tuple[str, ...], np.ndarray]:
    """All sites by name, and each scan's number among them, -1 unknown."""
    sites = tuple(sorted({site for index in indices for site in index.sites}))
    place = {name: number for number, name in enumerate(sites)}
    of_scans = [np.array([*map(place.__getitem__, i.sites), -1])[i.site] for i in indices]
    return sites, np.concatenate(of_scans).astype(np.int64)


def _numbered_scans(manifests: Sequence[ShardManifest], indices: Sequence[ScanIndex]) -> np.ndarray:
    parts, first = [], 0
    for manifest, index in zip(manifests, indices, strict=True):
        if index.scan is not None:
            parts.append(index.scan.astype(np.int64) + first)
        elif manifest.connectivity.get("window") is None:
            parts.append(np.arange(first, first + manifest.scans))
        else:  # release 0.1.0 did not say it of windows
            parts.append(np.full(manifest.scans, -1))
        first += manifest.scans
    return np.concatenate(parts)


def split_subjects(
    sets: ShardSets, scans: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Part `scans` by subject into (training, validation), the rounded `share` of the people, at
    least one, in the second.

    The people stand in drawn order, so neither file order nor cohort decides.
    """
    people = np.unique(sets.together[scans])
    count = max(1, round(share * len(people))) if share > 0 else 0
    held = in_drawn_order(sets, people, seed, 3)[:count]
    chosen = np.isin(sets.together[scans], held)
    return scans[~chosen], scans[chosen]


def scans_to_train(
    sets: ShardSets, train: np.ndarray, names: Sequence[str], epoch: int
) -> np.ndarray:
    """Those of the training scans that lie in the named sets (all where none is named).

    Args:
        epoch: the first that wants them, for the message.
    Raises: InputError where there are none.
    """
    scans = np.intersect1d(train, sets.scans_of(names))
    if not len(scans):
        raise InputError(
            f"no training scans of {', '.join(names) or 'any set'} in epoch {epoch}: "
            "data.validation holds back too many, or the phase's sets have none"
        )
    return scans


def in_drawn_order(sets: ShardSets, people: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """People ranked by a hash of their hashed id and the seed, whatever their order in the files.

    Args: people: their numbers.   stream: of `mix`: other draws of the same people are others.
    """
    hashes = np.array([int(sets.subjects[p][:15], 16) for p in people], dtype=np.int64)
    return np.asarray(people[np.argsort(mix(seed, stream, hashes), kind="stable")])


def own_vocabulary(config: DataConfig, manifests: Sequence[ShardManifest]) -> Vocabulary:
    """The vocabulary that the sets have by themselves, whatever checkpoint a run goes on from."""
    return merge(_chosen(config, manifests)).vocabulary


def _chosen(config: DataConfig, manifests: Sequence[ShardManifest]) -> list[tuple[str, Vocabulary]]:
    """Each set's vocabulary with the recipe's targets only, and without N/A where the recipe says
    so."""
    chosen = []
    for manifest in manifests:
        own = manifest.vocabulary
        if config.targets:
            own = own.select([name for name in own.names if name in config.targets])
        chosen.append(
            (manifest.name, own if config.not_applicable else own.without_not_applicable())
        )
    return chosen


def _unasked(
    manifest: ShardManifest, index: ScanIndex, config: DataConfig
) -> tuple[tuple[Target, np.ndarray], ...]:
    if not config.targets:
        return ()
    return tuple(
        (target, index.bei[:, column])
        for column, target in enumerate(manifest.vocabulary.targets)
        if target.name not in config.targets
    )


def _check_targets(config: DataConfig, manifests: Sequence[ShardManifest]) -> None:
    known = sorted({name for m in manifests for name in m.vocabulary.names})
    for name in config.targets:
        if name not in known:
            raise InputError(
                f"data.targets: no set has a target '{name}'{nearest(name, known)} "
                f"({', '.join(known)})"
            )


def _check_names(manifests: Sequence[ShardManifest]) -> None:
    names = [manifest.name for manifest in manifests]
    if len(set(names)) != len(names):
        raise InputError(f"data.sets: a set is named twice in {', '.join(names)}")


def _check_salts(manifests: Sequence[ShardManifest]) -> None:
    if len({m.salt_id for m in manifests}) > 1:
        raise InputError(
            f"data.sets: {', '.join(m.name for m in manifests)} were hashed with different salts, "
            "so one person in two of them would not be recognised; shard them in one project (one "
            ".lcm-salt file)"
        )


def _check_kinds(manifests: Sequence[ShardManifest], config: DataConfig) -> None:
    first = manifests[0]
    for manifest in manifests:
        if manifest.kind != first.kind and not config.mix_kinds:
            raise InputError(
                f"data.sets: {first.name} holds {first.kind} matrices, {manifest.name} "
                f"{manifest.kind} ones, which tells a model the set that a scan is from; shard "
                "both with one connectivity.kind, or set data.mix_kinds=true (the report says so)"
            )
        if manifest.kind == "covariance" and config.edges == "fisher_z":
            raise InputError(
                f"data.edges=fisher_z: set {manifest.name} holds covariances, which have no Fisher "
                "z; set data.edges=raw"
            )


def _edge_order(manifest: ShardManifest, atlas: Atlas, must_match: bool) -> np.ndarray | None:
    if manifest.atlas.checksum == atlas.checksum:
        return None
    positions = atlas.order_from(manifest.atlas)
    if must_match:
        raise InputError(
            f"set {manifest.name}: its regions stand in another order than the checkpoint's "
            f"({atlas.name}); data.reorder=true brings them into it by atlas index"
        )
    return edge_order(positions)


def _blocks(
    manifests: Sequence[ShardManifest], folders: Sequence[Path]
) -> tuple[tuple[RecordPlace, ...], np.ndarray]:
    blocks: list[RecordPlace] = []
    first = 0
    for number, (manifest, folder) in enumerate(zip(manifests, folders, strict=True)):
        for shard in manifest.shards:
            path = inside(folder, shard.file)
            for record in shard.records:
                blocks.append(RecordPlace(path, shard, record, first, number))
                first += record.scans
    return tuple(blocks), np.repeat(np.arange(len(blocks)), [b.record.scans for b in blocks])
