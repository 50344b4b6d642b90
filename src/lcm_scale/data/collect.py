"""Raw files to the store: every recording read, correlated, checked and appended, its ids hashed.

In: a shard recipe and its atlas. Out: the HDF5 store of `store.py` on disk, and a `ReadSummary`:
what the shards need beyond the store. Raw subject ids are needed to put the scans in order; they
stay in this summary, in memory, and enter no file.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, kind_of, parameters
from lcm_scale.data import store
from lcm_scale.data.cohort import check_cohort
from lcm_scale.data.connectivity import Matrix
from lcm_scale.data.manifest import BROKEN, CONSTANT
from lcm_scale.data.naming import Naming, named_by_files
from lcm_scale.data.parts import Parts, key_of
from lcm_scale.data.quality import mean_abs_r
from lcm_scale.data.readers import READERS
from lcm_scale.data.reading import Numbers, read_all, usual_jobs
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
    listed = list(READERS[recipe.reader](recipe, atlas))
    scans = [item for item in listed if isinstance(item, Unread)]
    labels = [labels_of(scan, recipe) for scan in scans]
    skipped = [item for item in listed if isinstance(item, Skipped)]
    return Listed(scans, labels, skipped, check_cohort(recipe, scans, labels))


def fill_store(
    recipe: ShardRecipe,
    atlas: Atlas,
    path: Path,
    jobs: int | None = None,
    parts: Parts | None = None,
) -> ReadSummary:
    """Append the matrices and labels of all raw files to a new store, in the order of reading.

    Args:
        atlas: of the files; the store lacks the regions of `connectivity.drop_regions`.
        jobs: processes that read, None: as many as are worth it; the store is the same.
        parts: where what is read is kept, so that another run of this need not read it again.
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
    naming, failed = Naming(), list[Skipped]()
    provenance = {
        "name": recipe.name,
        "atlas": json.dumps(kept.to_json()),
        "connectivity": json.dumps(parameters(recipe.connectivity)),
    }
    store.create(path, kept.n_edges, recipe.dtype, stored_names(recipe), provenance)
    rows, columns_of_edges = np.triu_indices(kept.n_regions, 1)
    with stage(f"read {recipe.name}", len(scans)) as advance:
        for first, chunk in _chunks(recipe, atlas, scans, jobs, parts):
            triangles: list[np.ndarray] = []
            facts: list[ScanFacts] = []
            labels: list[Mapping[str, str | None]] = []
            for number, done in enumerate(chunk, first):
                advance()
                scan = scans[number]
                if isinstance(done, Skipped):
                    failed.append(done)
                    _refuse_most(recipe, failed, len(scans))
                    continue
                naming.see(scan.source, done.named)
                _refuse_one_scan_of_two_people(summary, scan, done.digest)
                summary.simulated |= scan.simulated
                _count_left_out(summary, done.matrices)
                for matrix in done.matrices:
                    if isinstance(matrix, Skipped):
                        summary.skipped.append(matrix)
                        continue
                    _remember(summary, scan, done, matrix)
                    triangle = matrix.values[rows, columns_of_edges]
                    triangles.append(_stored(triangle, recipe.dtype, scan.source))
                    facts.append(_facts(scan, matrix, salt))
                    labels.append(listed.labels[number])
            if triangles:
                store.append(path, np.stack(triangles), facts, labels)
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


def _chunks(
    recipe: ShardRecipe,
    atlas: Atlas,
    scans: Sequence[Unread],
    jobs: int | None,
    parts: Parts | None,
) -> Iterator[tuple[int, Iterable[Numbers | Skipped]]]:
    """What was read, some scans at a time: the number of the first, and theirs. Of a set of one
    chunk nothing is kept, since it would be kept when it is done."""
    firsts = range(0, len(scans), CHUNK)
    if parts is None or len(firsts) < 2:
        stream = read_all(scans, recipe, atlas, jobs or usual_jobs(len(scans)))
        for first in firsts:
            yield first, islice(stream, CHUNK)
        return
    keys = [key_of(scans[first : first + CHUNK], recipe, atlas) for first in firsts]
    there = [parts.has(key) for key in keys]
    missing = [scan for number, scan in enumerate(scans) if not there[number // CHUNK]]
    if len(missing) < len(scans):
        print(f"{recipe.name}: {len(scans) - len(missing)} scans were read before", file=sys.stderr)
    stream = read_all(missing, recipe, atlas, jobs or usual_jobs(len(missing)))
    for key, first, was_there in zip(keys, firsts, there, strict=True):
        chunk = scans[first : first + CHUNK]
        done: Sequence[Numbers | Skipped] | None = parts.get(key, chunk) if was_there else None
        if done is None:
            again = read_all(chunk, recipe, atlas, 1) if was_there else stream  # it is damaged
            done = list(islice(again, len(chunk)))
            parts.put(key, chunk, done)
        yield first, done


def _refuse_one_scan_of_two_people(summary: ReadSummary, scan: Unread, digest: bytes) -> None:
    """Equal to the last bit: a file listed twice, or copied. Both people would be free to stand one
    in training and one in the test.

    Args: digest: of the scan's numbers.
    """
    where = scan.source if not scan.row else f"{scan.row} ({scan.source})"
    person, place = summary.first_with.setdefault(digest, (scan.subject, where))
    if normalised(person) != normalised(scan.subject):
        raise InputError(
            f"{where}: subject {scan.subject} has the very numbers of subject {person} in "
            f"{place}; a scan is of one person, leave one of them out"
        )


def _stored(triangle: np.ndarray, dtype: str, source: str) -> np.ndarray:
    """In the recipe's dtype.  Raises: InputError where a number does not fit it."""
    largest = float(np.abs(triangle).max())
    if largest > float(np.finfo(dtype).max):
        raise InputError(f"{source}: {largest:.3g} does not fit dtype={dtype}; set dtype=float32")
    return triangle.astype(dtype)


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


def _remember(summary: ReadSummary, scan: Unread, done: Numbers, matrix: Matrix) -> None:
    key = (normalised(scan.subject), scan.session, scan.run, matrix.window)
    summary.keys.append(key)
    summary.constant.update(matrix.constant)
    summary.broken.update(matrix.not_finite)
    summary.not_finite += bool(matrix.not_finite)
    said = (*scan.remarks, *done.remarks, *filter(None, [matrix.remark]))
    summary.seen.append((scan.source, matrix.constant, matrix.not_finite, said))
    summary.remarks.update(said)
    summary.ready += done.ready


def _count_left_out(summary: ReadSummary, matrices: Sequence[Matrix | Skipped]) -> None:
    """Volumes are left out of a scan, whatever its number of windows."""
    whole = next((matrix for matrix in matrices if isinstance(matrix, Matrix)), None)
    for what, volumes in (
        ("scrubbed", whole.scrubbed if whole else 0),
        ("without any number", whole.empty if whole else 0),
    ):
        summary.left_out[f"volumes {what}"] += volumes
        summary.left_out[f"scans with volumes {what}"] += volumes > 0


def _facts(scan: Unread, matrix: Matrix, salt: bytes) -> ScanFacts:
    def number(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    r = scan
    return ScanFacts(
        scan=hash_scan(salt, r.cohort, r.subject, r.session, r.run, matrix.window),
        subject=hash_subject(salt, r.cohort, r.subject),
        session=r.session,
        run=r.run,
        site=r.site,
        window=matrix.window,
        volumes=matrix.volumes,
        tr=number(r.tr),
        age=number(r.age),
        sex=r.sex or "",
        mean_fd=number(r.mean_fd),
        constant_regions=len(matrix.constant),
        broken_regions=len(matrix.not_finite),
        spikes=matrix.spikes,
        mean_abs_r=mean_abs_r(matrix.values, matrix.missing),
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
