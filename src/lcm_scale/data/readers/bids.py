"""BIDS derivatives: region series and matrices of XCP-D, HALFpipe, C-PAC and others that name their
files so.

    xcp_d/sub-01/func/sub-01_task-rest_space-X_atlas-Y_stat-mean_timeseries.tsv
                      sub-01_task-rest_space-X_atlas-Y_stat-pearsoncorrelation_relmat.tsv
                      sub-01_task-rest_motion.tsv, sub-01_task-rest_outliers.tsv
    participants.tsv  (with participants.json, sessions.tsv, scans.tsv) in the data set's folder

Recipe keys: source.dir (the derivatives), source.kind, source.entities (which files), source.runs,
source.table (participants.tsv, where it is not at the derivatives or above), source.age_unit,
source.tr, source.site, source.drop_columns. Labels: the tables' columns, and site, task, ses, acq
and dir as names have them, where no table has such a column. The repetition time comes from the
nearest JSON file (RepetitionTime; SamplingFrequency is not read, since XCP-D writes a word there
and HALFpipe seconds), the mean displacement from motion.tsv, fMRIPrep's confounds or HALFpipe's
FDMean.

XCP-D leaves high-motion volumes out of its series, or fills them by interpolation (modes abcd and
hbcd). Filled ones are left out here by its outliers.tsv, as XCP-D does for its own matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import CleanConfig, ShardRecipe, SourceConfig, expand
from lcm_scale.data.cleaning import confound_columns
from lcm_scale.data.readers.arrays import read_scan
from lcm_scale.data.readers.bids_beside import FD, Beside, column, header
from lcm_scale.data.readers.bids_names import (
    RUN,
    SCAN,
    BidsFile,
    chosen,
    one_a_scan,
    tables_below,
    without_joined,
)
from lcm_scale.data.readers.bids_runs import joined_runs
from lcm_scale.data.readers.bids_tables import PARTICIPANTS, BidsTables, read_tables, root_of
from lcm_scale.data.recordings import SIMULATED_MARKER, ScanArrays, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised

NAMED = ("task", "ses", "acq", "dir")  # entities that are labels


@dataclass(frozen=True)
class RunFiles:
    """The files of one run: its table, and XCP-D's or fMRIPrep's tables beside it."""

    table: Path
    outliers: Path | None
    confounds: Path | None


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans below source.dir, in the order of their paths; then the people who have none.

    Raises: InputError for a missing folder, for files of one scan between which the recipe does not
        choose, or for a table that cannot be read.
    """
    source = recipe.source
    folder = expand(source.dir or "")
    if not source.dir or not folder.is_dir():
        raise InputError(
            f"source.dir: {source.dir or 'not set'}: no such folder; name the derivatives, as "
            "derivatives/xcp_d"
        )
    _refuse_cleaning_of_joined_runs(recipe)
    found = tables_below(folder, source.kind)
    if not found:
        raise InputError(
            f"{folder}: no table of {source.kind} with a BIDS name (sub-..._timeseries.tsv, "
            "sub-..._relmat.tsv; source.kind)"
        )
    kept, left = without_joined(chosen(found, source.entities, folder), source.runs)
    files = one_a_scan(kept)
    for file, why in left:
        yield Skipped(file.path.name, why)
    root = root_of(folder, expand(source.table) if source.table else None)
    tables = BidsTables()
    if root is not None:
        table = expand(source.table) if source.table else root / PARTICIPANTS
        tables = read_tables(root, table, files, source, recipe.label_columns())
    beside = Beside(root, folder)
    for runs in _scans(files, source.runs):
        gone = [run for run in runs if not run.path.is_file()]
        for run in gone:
            yield Skipped(run.path.name, "link to a file that is not there (datalad get)")
        runs = [run for run in runs if run not in gone]
        if runs:
            yield _scan(recipe, runs, atlas, tables, beside)
    there = {normalised(file.entities["sub"]) for file in files}
    for subject in tables.people.entries:
        if subject not in there:
            yield Skipped(f"row of subject {subject}", "row of participants.tsv without a file")


def _refuse_cleaning_of_joined_runs(recipe: ShardRecipe) -> None:
    """A filter would ring over the seam, and a lag reach over it."""
    if recipe.source.runs != "average" or recipe.source.kind != "series":
        return
    if recipe.connectivity.clean != CleanConfig():
        raise InputError("connectivity.clean: joined runs are not cleaned; set source.runs=apart")
    if recipe.connectivity.kind == "lagged":
        raise InputError("connectivity.kind=lagged: joined runs have seams; set source.runs=apart")


def _scans(files: Sequence[BidsFile], runs: str) -> list[list[BidsFile]]:
    """The files of each scan: one, or all runs of a person's task."""
    if runs != "average":
        return [[file] for file in files]
    keys = [key for key in SCAN if key not in RUN]
    by_task: dict[tuple[str, ...], list[BidsFile]] = {}
    for file in files:
        by_task.setdefault(file.scan(keys), []).append(file)
    return list(by_task.values())


def _scan(
    recipe: ShardRecipe,
    runs: Sequence[BidsFile],
    atlas: Atlas,
    tables: BidsTables,
    beside: Beside,
) -> Unread:
    """A scan of one run, or of several that are made one."""
    source, first = recipe.source, runs[0]
    entry = tables.of(first)
    person = entry.person
    site = person.site or source.site or ""
    labels = {"site": site or None} | {key: first.entities.get(key) for key in NAMED}
    parts = [RunFiles(run.path, beside.table(run, "outliers"), beside.motion(run)) for run in runs]
    columns = confound_columns(recipe.connectivity.clean)
    told = [key for key in SCAN[2:] if key not in RUN or source.runs != "average"]
    repetition = {beside.repetition_time(run) for run in runs}
    moved = [fd for run in runs if (fd := beside.mean_fd(run)) is not None]
    return Unread(
        cohort=recipe.cohort or recipe.name,
        subject=first.entities["sub"],
        source=str(first.path),
        load=partial(_load, parts, source, atlas, recipe.connectivity.kind, columns),
        session=first.entities.get("ses", ""),
        run=first.named(told),
        site=site,
        tr=repetition.pop() if len(repetition) == 1 and repetition != {None} else source.tr,
        age=person.age,
        sex=person.sex,
        mean_fd=float(np.mean(moved)) if moved else None,
        labels=labels | dict(person.labels),
        row=entry.row,
        remarks=person.remarks,
        simulated=(first.path.parent / SIMULATED_MARKER).is_file(),
    )


def _load(
    runs: Sequence[RunFiles],
    source: SourceConfig,
    atlas: Atlas,
    kind: str,
    columns: Sequence[str],
) -> ScanArrays:
    """Args: kind: the recipe's connectivity.kind.   columns: the confounds that are asked for."""
    read_runs = [_censored(read_scan(run.table, source, atlas), run.outliers) for run in runs]
    if len(runs) > 1:
        return joined_runs(read_runs, [run.table for run in runs], kind)
    return replace(read_runs[0], confounds=_confounds(runs[0].confounds, columns))


def _censored(arrays: ScanArrays, outliers: Path | None) -> ScanArrays:
    """The series with the volumes that XCP-D marks as outliers empty, where it holds them: its
    table of outliers has a row for every volume of the image."""
    if outliers is None or arrays.series is None:
        return arrays
    marked = column(outliers, FD) > 0
    if len(marked) != len(arrays.series) or not marked.any():
        return arrays
    return replace(arrays, series=np.where(marked[:, None], np.nan, arrays.series))


def _confounds(table: Path | None, columns: Sequence[str]) -> Mapping[str, np.ndarray]:
    if table is None:
        return {}
    return {name: column(table, name) for name in columns if name in header(table)}
