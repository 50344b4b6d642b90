"""Open data sets that a public bucket holds, and which of its files make a raw folder that one of
our readers takes.

To add one: name its parts here, from a source that is written down in tests/fetch/test_open_sets.py
(which files there are is never remembered), and write its recipe under recipes/data/. The public
addresses stand here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from lcm_scale.errors import InputError
from lcm_scale.fetch.buckets import Remote, listed
from lcm_scale.fetch.https import Opener

ABIDE = "https://s3.amazonaws.com/fcp-indi"
OPENNEURO = "https://s3.amazonaws.com/openneuro.org"
OPENNEURO_BEFORE = "https://s3.amazonaws.com/openneuro"  # its releases until 2018
OPENNEURO_DERIVATIVES = "https://openneuro-derivatives.s3.amazonaws.com"
TEMPLATEFLOW = "https://templateflow.s3.amazonaws.com"
MOST_FILES = 20_000


@dataclass(frozen=True)
class Part:
    """Files of a set that lie below one prefix.

    Attributes:
        bucket: its address.
        below: what all keys begin with; no part of the local path.
        prefix: of the keys that are listed, after `below`.
        wanted: a regular expression that the rest of a key fits wholly; its group `person`, where
            it has one, tells whose the file is.
        place: the local path, with the expression's groups (`re.Match.expand`).
    """

    bucket: str
    below: str
    prefix: str
    wanted: str
    place: str = r"\g<0>"


@dataclass(frozen=True)
class OpenSet:
    """A set.

    Attributes:
        what: in a few words, with its licence.   parts: its files.
        most_bytes: more than it has; a longer list is not what it was.
        source: keys of its recipe that name the folder -> the value, with `{folder}`.
    """

    what: str
    parts: tuple[Part, ...]
    most_bytes: int
    source: Mapping[str, str]


@dataclass(frozen=True)
class Planned:
    """A file to fetch.

    Attributes: path: below the set's folder, with slashes.   person: '' where it is nobody's own.
    """

    remote: Remote
    path: str
    person: str


LABELS = "tpl-MNI152NLin2009cAsym_res-02_atlas-Schaefer2018_desc-200Parcels7Networks_dseg.nii.gz"
REGIONS = "tpl-MNI152NLin2009cAsym_atlas-Schaefer2018_desc-200Parcels7Networks_dseg.tsv"
SCHAEFER = tuple(
    Part(TEMPLATEFLOW, "tpl-MNI152NLin2009cAsym/", name, re.escape(name), rf"atlas/{name}")
    for name in (LABELS, REGIONS)
)
IMAGES = {
    "source.dir": "{folder}/derivatives/fmriprep",
    "source.labels_image": f"{{folder}}/atlas/{LABELS}",
    "atlas": f"{{folder}}/atlas/{REGIONS}",
}
CNP = "ds000030/ds000030_R1.0.5/uncompressed/"
TCP_SERIES = "fMRI_timeseries_clean_denoised_GSR_parcellated/"

SETS: dict[str, OpenSet] = {
    "abide": OpenSet(
        "ABIDE I by the Preprocessed Connectomes Project: AAL series of C-PAC, band-passed, with "
        "global signal regression; unrestricted for non-commercial research",
        (
            Part(
                ABIDE,
                "data/Projects/ABIDE_Initiative/Outputs/cpac/filt_global/rois_aal/",
                "",
                r"(?P<person>\w+)_rois_aal\.1D",
            ),
            Part(
                ABIDE,
                "data/Projects/ABIDE_Initiative/",
                "Phenotypic_V1_0b_preprocessed1.csv",
                r"Phenotypic_V1_0b_preprocessed1\.csv",
            ),
        ),
        2 * 10**9,
        {"source.dir": "{folder}"},
    ),
    "ds000030": OpenSet(
        "OpenNeuro ds000030, UCLA Consortium for Neuropsychiatric Phenomics: resting images by an "
        "early fMRIPrep; PDDL",
        (
            Part(
                OPENNEURO_BEFORE,
                f"{CNP}derivatives/fmriprep/",
                "sub-",
                r"(?P<person>sub-\d+)/func/(?P=person)_task-rest_bold_"
                r"(?:space-MNI152NLin2009cAsym_preproc\.nii\.gz|confounds\.tsv)",
                r"derivatives/fmriprep/\g<0>",
            ),
            Part(OPENNEURO_BEFORE, CNP, "participants.tsv", r"participants\.tsv"),
            *SCHAEFER,
        ),
        60 * 10**9,
        IMAGES,
    ),
    "ds000228": OpenSet(
        "OpenNeuro ds000228, children and adults watching a short film: images by fMRIPrep 21.0.2; "
        "PDDL",
        (
            Part(
                OPENNEURO_DERIVATIVES,
                "fmriprep/ds000228-fmriprep/",
                "sub-",
                r"(?P<person>sub-pixar\d+)/func/(?P=person)_task-pixar_"
                r"(?:space-MNI152NLin2009cAsym_res-2_desc-preproc_bold\.(?:nii\.gz|json)"
                r"|desc-confounds_timeseries\.(?:tsv|json))",
                r"derivatives/fmriprep/\g<0>",
            ),
            Part(OPENNEURO, "ds000228/", "participants.tsv", r"participants\.tsv"),
            *SCHAEFER,
        ),
        40 * 10**9,
        IMAGES,
    ),
    "ds005237": OpenSet(
        "OpenNeuro ds005237, Transdiagnostic Connectome Project: resting series of 434 regions, "
        "denoised, with global signal regression; CC0",
        (
            Part(
                OPENNEURO,
                "ds005237/",
                TCP_SERIES,
                # The folders spell NDAR_INV..., participants.tsv NDARINV...
                rf"{TCP_SERIES}(?P<person>NDAR_(?P<id>INV[A-Z0-9]+))/task-rest(?P<dir>AP|PA)_"
                r"(?P<run>run-\d+)_bold_Atlas_hp2000_clean_GSR_parcellated\.h5",
                r"sub-NDAR\g<id>/sub-NDAR\g<id>_task-rest_dir-\g<dir>_\g<run>_timeseries.h5",
            ),
            Part(OPENNEURO, "ds005237/", "participants.tsv", r"participants\.tsv"),
        ),
        4 * 10**9,
        {"source.dir": "{folder}", "source.table": "{folder}/participants.tsv"},
    ),
}


def plan(name: str, people: int | None, opener: Opener) -> list[Planned]:
    """The files of a set, by path.

    Args: people: the first so many by name, None for all.
    Raises: InputError where the source's list cannot be had, or is not what it was.
    """
    chosen = SETS[name]
    found: list[Planned] = []
    for part in chosen.parts:
        files = _wanted(part, listed(part.bucket, part.below + part.prefix, opener))
        if not files:
            raise InputError(
                f"{part.bucket}/{part.below}{part.prefix}: holds no file that {name} had here; the "
                "source has changed"
            )
        found += files
    if len({file.path for file in found}) < len(found) or len(found) > MOST_FILES:
        raise InputError(f"{name}: its source lists files twice, or more than {MOST_FILES:,}")
    found = _of_first(found, people)
    size = total(found)
    if size > chosen.most_bytes:
        raise InputError(
            f"{name}: its source lists {size:,} bytes, at most {chosen.most_bytes:,} were there; "
            "--people takes fewer"
        )
    return sorted(found, key=lambda file: file.path)


def total(files: Sequence[Planned]) -> int:
    """Bytes."""
    return sum(file.remote.size for file in files)


def people_of(files: Sequence[Planned]) -> list[str]:
    return sorted({file.person for file in files if file.person})


def _wanted(part: Part, remotes: Sequence[Remote]) -> list[Planned]:
    expression = re.compile(part.wanted, re.ASCII)
    found = []
    for remote in remotes:
        match = expression.fullmatch(remote.key.removeprefix(part.below))
        if match is not None and remote.key.startswith(part.below):
            path = match.expand(part.place)
            assert ".." not in PurePosixPath(path).parts and not path.startswith("/")
            found.append(Planned(remote, path, match.groupdict().get("person") or ""))
    return found


def _of_first(files: Sequence[Planned], people: int | None) -> list[Planned]:
    kept = {"", *people_of(files)[:people]}
    return [file for file in files if file.person in kept]
