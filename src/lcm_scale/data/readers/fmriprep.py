"""fMRIPrep's images, averaged over the regions of a label image, with fMRIPrep's confounds.

    fmriprep/sub-01/func/sub-01_task-rest_space-X_res-2_desc-preproc_bold.nii.gz, .json
                         sub-01_task-rest_desc-confounds_timeseries.tsv, .json
                         sub-01_task-rest_bold_space-X_preproc.nii.gz     (before fMRIPrep 1.2)
                         sub-01_task-rest_bold_confounds.tsv
    participants.tsv     (with sessions.tsv, scans.tsv) in the data set's folder

Recipe keys: source.dir (the derivatives), source.labels_image (its values are the indices of the
recipe's atlas), source.entities (which images), source.table, source.age_unit, source.tr,
source.site; connectivity.clean, with `strategy` for nilearn's choices of confounds
(`load_confounds_strategy`). Labels: the tables' columns, and site, task, ses, acq and dir as names
have them.

The label image is brought to an image's grid by nearest neighbours, and regions are means over
their voxels (nilearn's NiftiLabelsMasker): no standardisation, no filter, no mask. What is done to
the series is `cleaning.py`'s, in one place for all readers. A label that the image has not, or
loses on the coarser grid, is a missing region. Runs stay apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, StrategyConfig, expand
from lcm_scale.data.cleaning import confound_columns
from lcm_scale.data.readers.bids_beside import FD, Beside, column, header
from lcm_scale.data.readers.bids_names import SCAN, SUFFIX, BidsFile, chosen, one_a_scan, parse
from lcm_scale.data.readers.bids_tables import PARTICIPANTS, BidsTables, read_tables, root_of
from lcm_scale.data.readers.images import (
    IMAGES,
    check_labels,
    named_space,
    region_means,
    repetition_time,
)
from lcm_scale.data.readers.strategies import load_strategy
from lcm_scale.data.recordings import SIMULATED_MARKER, ScanArrays, Skipped, Unread
from lcm_scale.errors import InputError
from lcm_scale.identity import normalised

NAMED = ("task", "ses", "acq", "dir")  # entities that are labels
IMAGE = "bold"
# A person's own spaces: a label image of a template lies elsewhere in them.
OWN_SPACES = ("", "T1w", "T2w", "func", "boldref", "scanner", "individual", "fsnative")
CONFOUNDS = ("timeseries", "regressors")  # suffixes since fMRIPrep 20.2, and since 1.2
OLD_IMAGE = re.compile(r"(sub-.+)_bold_space-([A-Za-z0-9]+)_preproc\.nii(\.gz)?")
OLD_CONFOUNDS = "bold_confounds.tsv"
OLD_FD = "FramewiseDisplacement"


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """The scans below source.dir, in the order of their paths; then the people who have none.

    Raises: InputError for a missing folder, a label image that is none of this atlas, images of one
        scan between which the recipe does not choose, images in a person's own space, or a table
        that cannot be read.
    """
    source, strategy = recipe.source, recipe.connectivity.clean.strategy
    folder = expand(source.dir or "")
    if not source.dir or not folder.is_dir():
        raise InputError(
            f"source.dir: {source.dir or 'not set'}: no such folder; name the derivatives, as "
            "derivatives/fmriprep"
        )
    if source.runs != "apart":
        raise InputError(f"source.runs={source.runs}: reader fmriprep keeps runs apart")
    if not source.labels_image:
        raise InputError(
            "source.labels_image is not set: name the image of regions (.nii, .nii.gz) whose "
            "values are the atlas's indices"
        )
    labels = expand(source.labels_image)
    check_labels(labels, atlas)
    files = one_a_scan(chosen(images_below(folder), _wanted(recipe), folder))
    for file in files:
        if file.entities.get("space", "") in OWN_SPACES:
            raise InputError(
                f"{file.path}: an image in the person's own space, and the label image is one of a "
                "template; choose a template's with source.entities, as "
                "{space: MNI152NLin2009cAsym}"
            )
    root = root_of(folder, expand(source.table) if source.table else None)
    tables = BidsTables()
    if root is not None:
        table = expand(source.table) if source.table else root / PARTICIPANTS
        tables = read_tables(root, table, files, source, recipe.label_columns())
    beside = Beside(root, folder)
    for file in files:
        if not file.path.is_file():
            yield Skipped(file.path.name, "link to a file that is not there (datalad get)")
        else:
            yield _scan(recipe, file, labels, atlas, tables, beside, strategy)
    there = {normalised(file.entities["sub"]) for file in files}
    for subject in tables.people.entries:
        if subject not in there:
            yield Skipped(f"row of subject {subject}", "row of participants.tsv without a file")


def _wanted(recipe: ShardRecipe) -> dict[str, str]:
    """The recipe's entities; fMRIPrep's own description of the images where it names none."""
    aroma = recipe.connectivity.clean.strategy.name == "ica_aroma"
    return {"desc": "smoothAROMAnonaggr" if aroma else "preproc", **recipe.source.entities}


def images_below(folder: Path) -> list[BidsFile]:
    """Every image series below a folder, by path; a link whose target is not there (DataLad's,
    before `get`) is among them.  Raises: InputError where there is none."""
    found = []
    for path in sorted(folder.rglob("sub-*")):
        file = _image(path) if path.name.endswith(IMAGES) else None
        if file is not None and (path.is_file() or path.is_symlink()):
            found.append(file)
    if not found:
        raise InputError(
            f"{folder}: no image with fMRIPrep's name (sub-..._desc-preproc_bold.nii.gz)"
        )
    return found


def _image(path: Path) -> BidsFile | None:
    old = OLD_IMAGE.fullmatch(path.name)
    if old is not None:
        named = parse(Path(f"{old[1]}_space-{old[2]}_desc-preproc_{IMAGE}.nii.gz"))
        return None if named is None else BidsFile(path, named.entities)
    file = parse(path)
    return file if file is not None and file.entities[SUFFIX] == IMAGE else None


def confounds_of(file: BidsFile) -> Path | None:
    """The table of an image's confounds, a row a volume; None where there is none."""
    old = OLD_IMAGE.fullmatch(file.path.name)
    if old is not None:
        table = file.path.with_name(f"{old[1]}_{OLD_CONFOUNDS}")
        return table if table.is_file() else None
    for suffix in CONFOUNDS:
        for path in sorted(file.path.parent.glob(f"sub-*_desc-confounds_{suffix}.tsv")):
            other = parse(path)
            if other is not None and other.scan() == file.scan():
                return path
    return None


def _scan(
    recipe: ShardRecipe,
    file: BidsFile,
    labels_image: Path,
    atlas: Atlas,
    tables: BidsTables,
    beside: Beside,
    strategy: StrategyConfig,
) -> Unread:
    source, entry = recipe.source, tables.of(file)
    person = entry.person
    site = person.site or source.site or ""
    labels = {"site": site or None} | {key: file.entities.get(key) for key in NAMED}
    confounds = confounds_of(file)
    columns = confound_columns(recipe.connectivity.clean)
    tr = beside.repetition_time(file) or repetition_time(file.path) or source.tr
    return Unread(
        cohort=recipe.cohort or recipe.name,
        subject=file.entities["sub"],
        source=str(file.path),
        load=partial(_load, file.path, labels_image, atlas, confounds, columns, strategy),
        session=file.entities.get("ses", ""),
        run=file.named(SCAN[2:]),
        site=site,
        tr=tr,
        age=person.age,
        sex=person.sex,
        mean_fd=_mean_fd(confounds),
        labels=labels | dict(person.labels),
        row=entry.row,
        remarks=(*person.remarks, *_remarks(labels_image, file)),
        simulated=(file.path.parent / SIMULATED_MARKER).is_file(),
    )


def _remarks(labels_image: Path, file: BidsFile) -> tuple[str, ...]:
    """Two templates of one name family differ by millimetres: reports say so."""
    theirs, ours = named_space(labels_image.name), file.entities["space"]
    if theirs in ("", ours):
        return ()
    return (f"image in {ours}, regions from a label image in {theirs}",)


def _mean_fd(confounds: Path | None) -> float | None:
    """Mean framewise displacement, mm, over all volumes of the image."""
    there = header(confounds) if confounds is not None else []
    name = next((name for name in (FD, OLD_FD) if name in there), None)
    if confounds is None or name is None:
        return None
    values = column(confounds, name)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _load(
    image: Path,
    labels_image: Path,
    atlas: Atlas,
    confounds: Path | None,
    columns: Sequence[str],
    strategy: StrategyConfig,
) -> ScanArrays:
    """Args: columns: the confounds that the cleaning asks for by name."""
    series, regions = region_means(image, labels_image, atlas)
    there = header(confounds) if confounds is not None else []
    named = {name: column(confounds, name) for name in columns if confounds and name in there}
    if strategy.name == "none":
        return ScanArrays(series, None, regions, named)
    if confounds is None:
        raise InputError(
            f"{image}: no confounds beside it (..._desc-confounds_timeseries.tsv), which "
            f"connectivity.clean.strategy.name={strategy.name} reads"
        )
    regressors, outliers = load_strategy(image, confounds, strategy)
    return ScanArrays(series, None, regions, named, regressors, outliers)
