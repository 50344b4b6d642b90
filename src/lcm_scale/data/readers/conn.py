"""CONN's region series, one file a subject and condition: `ROI_Subject001_Condition001.mat`.

Such a file holds `names`, and `data`, a cell of (volumes, dimensions) a name: regions called after
the ROI file that they come from (`atlas.FP r (Frontal Pole Right)`), and what are no regions:
tissue, covariates, effects. Those are left out, and every report says so. Names decide the order.

Recipe keys: source.dir, source.pattern (default: the denoised series,
ROI_Subject*_Condition*.mat), source.rois (the ROI file, where there are several), source.tr,
source.site, and source.table: a table of people (`people.py`), joined by CONN's number of the
subject in the column `conn_subject`, or in the subject's where there is no such column.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, SourceConfig, expand
from lcm_scale.data.readers.files import files_of
from lcm_scale.data.readers.matlab import MATLAB
from lcm_scale.data.readers.names import refuse_strangers, scan_of
from lcm_scale.data.readers.people import Entry, People, read_people
from lcm_scale.data.recordings import ScanArrays, Skipped, Unread
from lcm_scale.errors import InputError, nearest

FILE = re.compile(r"ROI_Subject(?P<subject>\d+)_(?P<what>Condition|Session)(?P<number>\d+)\.mat")
NUMBER = "conn_subject"  # the table's column of CONN's numbers
# What CONN itself takes for no region (conn_process.m), and the tissue that it calls CSF.
NO_REGION = re.compile(r"(Grey|White|CSF) Matter|CSF|QA_.*|QC_.*|Effect of .*")
SHOWN = 8  # names that a message lists


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans of source.dir, in the order of their paths; a condition is a session.

    Raises: InputError for a missing folder or table, or a table that knows none of the subjects.
    """
    source = recipe.source
    files = files_of(source, "ROI_Subject*_Condition*.mat")
    found = [FILE.fullmatch(path.name) for path in files]
    wanted = recipe.label_columns()
    people = read_people(expand(source.table), source, wanted) if source.table else People()
    by_number = _by_number(people, source.table or "")
    numbers = [match["subject"] for match in found if match is not None]
    if not by_number:
        refuse_strangers(people, files, numbers, source.table or "")
    elif not {int(number) for number in numbers} & set(by_number):
        raise InputError(f"{source.table}: column {NUMBER} has none of the files' subjects")
    for path, match in zip(files, found, strict=True):
        if match is None:
            yield Skipped(path.name, "file name that is not CONN's (ROI_Subject*_Condition*.mat)")
        elif match["what"] == "Condition" and int(match["number"]) == 0:
            yield Skipped(path.name, "file of all conditions together, each of which has its own")
        elif by_number and int(match["subject"]) not in by_number:
            yield Skipped(path.name, "file without a row in the table")
        else:
            entry = by_number.get(int(match["subject"])) or people.of(match["subject"])
            yield _scan(recipe, path, match, entry, atlas)


def _by_number(people: People, table: str) -> Mapping[int, Entry]:
    """CONN's number -> the person, where the table has a column of them."""
    if NUMBER not in people.columns:
        return {}
    known: dict[int, Entry] = {}
    for entry in people.entries.values():
        cell = entry.person.labels[NUMBER]
        if cell is None:
            continue
        if re.fullmatch(r"\d{1,9}(\.0*)?", cell) is None:
            raise InputError(f"{entry.row}: {NUMBER} is '{cell[:64]}', expected a whole number")
        number = int(float(cell))
        if number in known:
            raise InputError(f"{entry.row}: {NUMBER} {number} stands in {known[number].row} too")
        known[number] = entry
    return known


def _scan(
    recipe: ShardRecipe, path: Path, match: re.Match[str], entry: Entry, atlas: Atlas
) -> Unread:
    said = {
        "subject": entry.person.subject,
        "session": f"{match['what'].lower()}{match['number']}",
    }
    scan = scan_of(recipe, path, said, entry, atlas)
    raw = ("series before CONN's denoising",) if match["what"] == "Session" else ()
    load = partial(_load, path, recipe.source, atlas)
    return replace(scan, load=load, remarks=(*scan.remarks, *raw))


def names_in(path: Path) -> list[str]:
    """All names of a file, regions or not.  Raises: InputError where it is none of CONN's."""
    held = {variable.name for variable in MATLAB.variables(path)}
    if not {"data", "names"} <= held:
        raise InputError(
            f"{path}: no file of CONN's region series: it has no variables data and names"
        )
    return MATLAB.words(path, "names")


def roi_files(names: Sequence[str]) -> list[str]:
    """The ROI file that each name comes from, '' for what is no region of one.

    A region that is a file of its own has no full stop, and neither has a covariate.
    """
    return [
        "" if NO_REGION.fullmatch(name) else name.partition(".")[0] if "." in name else ""
        for name in names
    ]


def _chosen(names: Sequence[str], rois: str | None, path: Path) -> list[int]:
    """Where the regions of one ROI file stand.

    Raises: InputError where there are several ROI files, or none of that name.
    """
    files = roi_files(names)
    counts = Counter(file for file in files if file)
    listed = ", ".join(f"{file[:64]} ({n} regions)" for file, n in counts.most_common(SHOWN))
    if not counts:
        raise InputError(f"{path}: none of its {len(names)} names is a region of a ROI file")
    if rois is None and len(counts) > 1:
        raise InputError(f"{path}: regions of several ROI files, {listed}; name one: source.rois")
    if rois is not None and rois not in counts:
        raise InputError(
            f"{path}: no regions of '{rois}' (source.rois){nearest(rois, counts)} (it has {listed})"
        )
    return [i for i, file in enumerate(files) if file == (rois or next(iter(counts)))]


def _load(path: Path, source: SourceConfig, atlas: Atlas) -> ScanArrays:
    names = names_in(path)
    chosen = _chosen(names, source.rois, path)
    series = MATLAB.read(path, "data", cells=chosen)
    columns = tuple(_in_atlas(names[i].partition(".")[2], atlas) for i in chosen)
    others = [name[:64] for i, name in enumerate(names) if i not in chosen]
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    remark = f"left out, no regions of the set: {', '.join(others[:SHOWN])}{more}"
    return ScanArrays(
        series,
        None,
        None,
        columns=columns if source.order == "names" else (),
        file_remarks=(remark,) if others else (),
    )


def _in_atlas(name: str, atlas: Atlas) -> str:
    """A region's name, without what CONN puts in brackets where the atlas has it so."""
    short = name.partition(" (")[0]
    return short if name not in atlas.names and short in atlas.names else name
