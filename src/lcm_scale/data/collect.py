"""Raw files to the store: every recording read, correlated, checked and appended, its ids hashed.

In: a shard recipe and its atlas. Out: the HDF5 store of `store.py` on disk, and a `ReadSummary`:
what the shards need beyond the store. Raw subject ids are needed to put the scans in order; they
stay in this summary, in memory, and enter no file.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, kind_of, parameters
from lcm_scale.data import reading, store
from lcm_scale.data.cohort import check_cohort
from lcm_scale.data.duplicates import joined, left_out
from lcm_scale.data.journal import Journal
from lcm_scale.data.manifest import BROKEN, CONSTANT
from lcm_scale.data.marks import Marks
from lcm_scale.data.naming import Naming, named_by_files
from lcm_scale.data.pool import in_order
from lcm_scale.data.readers import reader_of
from lcm_scale.data.reading import Piece, ScanRead
from lcm_scale.data.recordings import Skipped, Unread
from lcm_scale.data.skipped import examples, report_skipped
from lcm_scale.data.store import ScanFacts
from lcm_scale.data.targets import labels_of, stored_names
from lcm_scale.errors import InputError
from lcm_scale.identity import hash_scan, hash_subject, normalised, project_salt
from lcm_scale.progress import stage
from lcm_scale.terminal import print

CHUNK = 256  # scans appended to the store at once
ASKED = 0.5  # share of the scans from which on a missing region is a question


@dataclass
class ReadSummary:
    """What was seen while the raw files went by.

    Attributes:
        atlas: regions of the store, with the names that the files give them where the recipe's has
            none.
        keys: (raw subject id, session, run, window) of each scan, in the order of the store.
        skipped: what was left out, and why.
        constant, broken: region -> scans in which it never changes, or has NaN or inf.
        not_finite: scans with NaN or inf.
        left_out: volumes, and the scans that they are of, by the reason why they were left out.
        ready: scans that came as matrices.   simulated: whether any recording is.
        remarks: what readers remarked -> the number of scans.
        odd: what must be said of the people -> raw examples, for the terminal.
        first_with: digest of a scan's numbers -> the subject who had them first, and where.
        seen: of each scan its file, its constant regions, those with NaN or inf, and the remarks.
    """

    atlas: Atlas
    keys: list[tuple[str, str, str, int]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    constant: Counter[int] = field(default_factory=Counter)
    broken: Counter[int] = field(default_factory=Counter)
    not_finite: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    ready: int = 0
    simulated: bool = False
    remarks: Counter[str] = field(default_factory=Counter)
    odd: dict[str, list[str]] = field(default_factory=dict)
    first_with: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    seen: list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[str, ...]]] = field(
        default_factory=list
    )

    def leave_out(self, reasons: Sequence[str]) -> None:
        """Scans that `quality` judges to be bad are skipped after all.

        Args: reasons: of each scan in the order of the store, '' where it stays.
        """
        for key, why, seen in zip(self.keys, reasons, self.seen, strict=True):
            if why:
                (source, constant, broken, said), window = seen, key[-1]
                what = f"{source}, window {window}" if window else source
                self.skipped.append(Skipped(what, why, reported=True))
                self.constant -= Counter(constant)
                self.broken -= Counter(broken)
                self.remarks -= Counter(said)
                self.not_finite -= bool(broken)
        stay = [not why for why in reasons]
        self.keys = list(compress(self.keys, stay))
        self.seen = list(compress(self.seen, stay))

    def quality(self, atlas: Atlas) -> dict[str, Any]:
        """What the manifest says of the scans: how many, what was skipped, what was odd."""

        def named(regions: Counter[int]) -> dict[str, int]:
            return {atlas.label(r): n for r, n in sorted(regions.items())}

        odd: dict[str, Any] = {BROKEN: named(self.broken)}
        return {
            "scans": len(self.keys),
            "skipped": dict(sorted(Counter(skip.why for skip in self.skipped).items())),
            CONSTANT: named(self.constant),
            "scans with NaN or inf": self.not_finite,
            **{key: value for key, value in {**odd, **self.left_out}.items() if value},
        }

    def notes(self) -> list[str]:
        """What every report of the set must say beside the recipe's own notes."""
        left_out = Counter(skip.why for skip in self.skipped if skip.reported)
        return [
            *(f"Left out, {n}: {why}." for why, n in sorted(left_out.items())),
            *(f"{n} of {len(self.keys)} scans: {why}." for why, n in sorted(self.remarks.items())),
            *self.odd,
        ]

    def missing(self) -> dict[int, int]:
        """Region -> scans in which it has no data, for those that have none in some."""
        return dict(sorted((self.constant + self.broken).items()))


def _refuse_most(recipe: ShardRecipe, failed: Sequence[Skipped], scans: int) -> None:
    """Raises: InputError where more than half of the scans are skipped for their files: that is no
    bad scan, but a wrong recipe."""
    if 2 * len(failed) > scans:
        raise InputError(
            f"{recipe.name}: more than half of {scans} scans cannot be used, so "
            f"source.on_error=skip ends here; the first: {failed[0].what}"
        )


@dataclass(frozen=True)
class Listed:
    """A recipe's scans before their files are opened.

    Attributes:
        labels: group or scalar -> label, a scan.
        skipped: what is left out.   odd: as of `ReadSummary`.
    """

    scans: list[Unread]
    labels: list[dict[str, str | None]]
    skipped: list[Skipped]
    odd: dict[str, list[str]]


def list_scans(recipe: ShardRecipe, atlas: Atlas) -> Listed:
    """The scans of a recipe as tables and names tell them. No scan's file is opened.

    Raises: InputError for a folder or table that cannot be read, for a file name or label that the
        recipe does not allow, or for people who cannot be (`cohort.check_cohort`).
    """
    listed = list(reader_of(recipe.reader)(recipe, atlas))
    scans, left = left_out(
        [item for item in listed if isinstance(item, Unread)], recipe.source.leave_out
    )
    labels = [labels_of(scan, recipe) for scan in scans]
    skipped = [item for item in listed if isinstance(item, Skipped)] + left
    odd = check_cohort(recipe, scans, labels)
    scans, of_joined = joined(scans, labels, recipe.source.same_person)
    return Listed(scans, labels, skipped, odd | of_joined)


def fill_store(
    recipe: ShardRecipe, atlas: Atlas, path: Path, journal: Journal, jobs: int | None
) -> ReadSummary:
    """Append the matrices and labels of all raw files to a new store, in the order of reading.

    Args:
        atlas: of the files; the store lacks the regions of `connectivity.drop_regions`.
        journal: of scans that need not be read again.
        jobs: processes that read, None: as many as help.
    Returns: what was seen, with the atlas of the store.
    Raises: InputError for a file that cannot be used, a scan that occurs twice, an unknown label,
        or where no scan is usable.
    """
    salt = project_salt()
    listed = list_scans(recipe, atlas)
    scans = listed.scans
    atlas = named_by_files(atlas, scans)
    kept = atlas.without(recipe.connectivity.drop_regions)
    summary = ReadSummary(kept, skipped=list(listed.skipped), odd=listed.odd)
    provenance = {
        "name": recipe.name,
        "atlas": json.dumps(kept.to_json()),
        "connectivity": json.dumps(parameters(recipe.connectivity)),
    }
    store.create(path, kept.n_edges, recipe.dtype, stored_names(recipe), provenance)
    rows = _Rows(path)
    naming = Naming()
    failed: list[Skipped] = []
    with (
        stage(f"read {recipe.name}", len(scans)) as advance,
        closing(_all_read(recipe, atlas, scans, Marks(recipe, atlas, salt), journal, jobs)) as read,
    ):
        for scan, labels_of_scan, done in zip(scans, listed.labels, read, strict=True):
            advance()
            if isinstance(done, Skipped):
                failed.append(done)
                _refuse_most(recipe, failed, len(scans))
                continue
            naming.see(done.named, scan.source)
            _refuse_one_scan_of_two_people(summary, scan, done.digest)
            summary.simulated |= scan.simulated
            _count_left_out(summary, done)
            for piece in done.pieces:
                if isinstance(piece, Skipped):
                    summary.skipped.append(piece)
                    continue
                _remember(summary, scan, done, piece)
                rows.add(piece.triangle, _facts(scan, piece, salt), labels_of_scan)
    rows.flush()
    summary.skipped += failed
    _refuse_nothing(recipe, summary)
    return summary


def _refuse_nothing(recipe: ShardRecipe, summary: ReadSummary) -> None:
    """Raises: InputError where no scan is usable."""
    if not summary.keys:
        reasons = Counter(s.why for s in summary.skipped)
        raise InputError(
            f"{recipe.name}: no usable scan "
            f"({'; '.join(f'{n} {why}' for why, n in reasons.items()) or 'no files'})"
        )


class _Rows:
    """Rows on their way to a store, appended some at a time.  Args: path: of the store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._triangles: list[np.ndarray] = []
        self._facts: list[ScanFacts] = []
        self._labels: list[Mapping[str, str | None]] = []

    def add(self, triangle: np.ndarray, facts: ScanFacts, labels: Mapping[str, str | None]) -> None:
        self._triangles.append(triangle)
        self._facts.append(facts)
        self._labels.append(labels)
        if len(self._triangles) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        if self._triangles:
            store.append(self._path, np.stack(self._triangles), self._facts, self._labels)
        for rows in (self._triangles, self._facts, self._labels):
            rows.clear()


def _all_read(
    recipe: ShardRecipe,
    atlas: Atlas,
    scans: Sequence[Unread],
    marks: Marks,
    journal: Journal,
    jobs: int | None,
) -> Generator[ScanRead | Skipped, None, None]:
    """What each scan's file gives, in order: out of the journal, or read and put into it."""
    own = [marks.of(scan) for scan in scans]
    changed = journal.forget_others(set(own))
    known = sum(mark in journal for mark in own)
    if known:
        print(
            f"{recipe.name}: goes on where an earlier run ended: {known} of {len(scans)} scans are "
            "read already",
            file=sys.stderr,
        )
    if changed:
        print(
            f"{recipe.name}: {changed} scans that an earlier run had read are not taken from it: "
            "their files, the recipe or lcm-scale changed since",
            file=sys.stderr,
        )
    # Labels stay here: reading does not need them, and they may be many.
    unread = [
        replace(scan, labels={})
        for scan, mark in zip(scans, own, strict=True)
        if mark not in journal
    ]
    with closing(in_order(partial(reading.read, recipe=recipe, atlas=atlas), unread, jobs)) as read:
        for scan, mark in zip(scans, own, strict=True):
            if mark in journal:
                yield journal.get(mark, scan.source)
                continue
            done = next(read)
            if isinstance(done, ScanRead):
                journal.add(mark, done, scan.source)
            yield done


def _refuse_one_scan_of_two_people(summary: ReadSummary, scan: Unread, digest: bytes) -> None:
    """Equal to the last bit: a file listed twice, or copied. Both people would be free to stand one
    in training and one in the test."""
    where = scan.source if not scan.row else f"{scan.row} ({scan.source})"
    person, place = summary.first_with.setdefault(digest, (scan.subject, where))
    if normalised(person) != normalised(scan.subject):
        raise InputError(
            f"{where}: subject {scan.subject} has the very numbers of subject {person} in "
            f"{place}; a scan is of one person: source.leave_out=[{scan.subject}] drops one, "
            f"source.same_person=[[{person}, {scan.subject}]] makes them one"
        )


def ask_about_missing_regions(recipe: ShardRecipe, atlas: Atlas, summary: ReadSummary) -> None:
    """Raises: InputError naming the first region that is missing in half of the scans or more and
    that the recipe does not accept, and the keys that answer."""
    scans, accepted = len(summary.keys), recipe.connectivity.accept_missing
    asked = [
        (region, count)
        for region, count in summary.missing().items()
        if count >= ASKED * scans and atlas.indices[region] not in accepted
    ]
    if asked:
        region, count = asked[0]
        more = f", and {len(asked) - 1} more in half of them or more" if len(asked) > 1 else ""
        listed = f"[{', '.join(str(atlas.indices[r]) for r, _ in asked)}]"
        raise InputError(
            f"{recipe.name}: {atlas.label(region)} is missing (constant, or NaN) in {count} "
            f"of {scans} scans, {count / scans:.0%}{more}; connectivity.drop_regions={listed} "
            f"leaves such regions out of the set, connectivity.accept_missing={listed} keeps them "
            "as rows of zeros"
        )


def _remember(summary: ReadSummary, scan: Unread, done: ScanRead, piece: Piece) -> None:
    summary.keys.append((normalised(scan.subject), scan.session, scan.run, piece.window))
    summary.constant.update(piece.constant)
    summary.broken.update(piece.not_finite)
    summary.not_finite += bool(piece.not_finite)
    said = (*scan.remarks, *done.remarks, *filter(None, [piece.remark]))
    summary.seen.append((scan.source, piece.constant, piece.not_finite, said))
    summary.remarks.update(said)
    summary.ready += done.ready


def _count_left_out(summary: ReadSummary, done: ScanRead) -> None:
    for what, volumes in (("scrubbed", done.scrubbed), ("without any number", done.empty)):
        summary.left_out[f"volumes {what}"] += volumes
        summary.left_out[f"scans with volumes {what}"] += volumes > 0


def _facts(scan: Unread, piece: Piece, salt: bytes) -> ScanFacts:
    def number(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    return ScanFacts(
        scan=hash_scan(salt, scan.cohort, scan.subject, scan.session, scan.run, piece.window),
        subject=hash_subject(salt, scan.cohort, scan.subject),
        session=scan.session,
        run=scan.run,
        site=scan.site,
        window=piece.window,
        volumes=piece.volumes,
        tr=number(scan.tr),
        age=number(scan.age),
        sex=scan.sex or "",
        mean_fd=number(scan.mean_fd),
        constant_regions=len(piece.constant),
        broken_regions=len(piece.not_finite),
        spikes=piece.spikes,
        mean_abs_r=piece.mean_abs_r,
    )


def report_odd(summary: ReadSummary, recipe: ShardRecipe, atlas: Atlas) -> None:
    """Everything that was left out, on the terminal only, since these are raw names; then regions
    without data and what ready matrices were taken for.

    Args: atlas: of the set.
    """
    report_skipped(recipe.name, summary.skipped)
    for note, raw in summary.odd.items():
        print(f"{recipe.name}: {note} {examples(raw)}".rstrip(), file=sys.stderr)
    missing = [f"{atlas.label(r)} in {n}" for r, n in summary.missing().items()]
    if missing:
        print(
            f"{recipe.name}: regions without data, of {len(summary.keys)} scans: "
            f"{', '.join(missing)}; model.mask_constant=true leaves them out of attention",
            file=sys.stderr,
        )
    if summary.ready:
        print(
            f"{recipe.name}: {summary.ready} ready matrices, taken as "
            f"{kind_of(parameters(recipe.connectivity))} (connectivity.kind)",
            file=sys.stderr,
        )
