"""fMRIPrep's images, of which a label image makes regions."""

from __future__ import annotations

from pathlib import Path

from lcm_scale.data.readers.bids_tables import root_of
from lcm_scale.data.readers.fmriprep import OWN_SPACES, images_below
from lcm_scale.errors import InputError
from lcm_scale.layouts.bids import differing_entities, question_of
from lcm_scale.layouts.found import Found, Question, Regions, shown


def looks_like(folder: Path) -> Found | None:
    if not folder.is_dir():
        return None
    try:
        images = images_below(folder)
    except InputError:
        return None
    images = [file for file in images if file.entities.get("desc") == "preproc"]
    if not images:
        return None  # raw images, or another pipeline's
    usable = [file for file in images if file.entities.get("space", "") not in OWN_SPACES]
    questions = [
        Question(
            "which image of regions, in the same template's space? Its values are the indices of "
            "the atlas below",
            ("labels_image: FILE.nii.gz",),
        )
    ]
    differ = differing_entities(usable)
    if differ:
        questions.append(question_of(differ, usable))
    root = root_of(folder, None)
    if root is None:
        text = "where is participants.tsv? There is none in the folder or above it"
        questions.append(Question(text, ("table: FILE/participants.tsv",)))
    remarks = ["Needs nilearn: pip install 'lcm-scale[imaging]'."]
    if len(usable) < len(images):
        remarks.append(f"{len(images) - len(usable)} images of persons' own spaces are no use here")
    return Found(
        layout=f"fMRIPrep's images, {len(usable)} of them in a template's space",
        name=(root or folder.absolute()).name,
        reader="fmriprep",
        source={"dir": shown(folder)},
        regions=Regions(
            "aal116",
            "which regions they are is the label image's to say",
            question="which atlas, or table with the columns index and name, has the values of the "
            "label image?",
        ),
        questions=tuple(questions),
        remarks=tuple(remarks),
    )
