"""Damaged images, label images and confounds: reader fmriprep reads them, or says in one line what is
wrong. Nothing else may come out, and no mutant may take much memory."""

from __future__ import annotations

import gzip
import random
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mutants import mutant, table_mutant

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")

from lcm_scale.atlas import numbered  # noqa: E402
from lcm_scale.config import (  # noqa: E402
    CleanConfig,
    ConnectivityConfig,
    ShardRecipe,
    SourceConfig,
    StrategyConfig,
)
from lcm_scale.data.connectivity import connectivity_matrices  # noqa: E402
from lcm_scale.data.readers import fmriprep, images  # noqa: E402
from lcm_scale.data.recordings import Unread  # noqa: E402
from lcm_scale.errors import InputError  # noqa: E402

SEED = 16
MUTANTS = 60  # of a kind
R, VOLUMES = 6, 20
GROWTH = 2**30  # bytes by which this process may grow over the mutants of a kind
STEM = "sub-1_task-rest"
COLUMNS = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z", "csf", "white_matter"]


def nifti(values: np.ndarray) -> bytes:
    return bytes(nibabel.Nifti1Image(values, np.eye(4)).to_bytes())


def as_it_is(data: bytes) -> bytes:
    return data


RNG = np.random.default_rng(0)
IMAGE = nifti(RNG.standard_normal((R, 2, 2, VOLUMES)).astype(np.float32))
LABELS = nifti(np.repeat(np.arange(1, R + 1, dtype=np.int16), 4).reshape(R, 2, 2))
TABLE = "\n".join(
    ["\t".join([*COLUMNS, "cosine00", "framewise_displacement"])]
    + ["\t".join(f"{value:.3f}" for value in RNG.random(10)) for _ in range(VOLUMES)]
).encode()
# Kind -> the file's name, what is mutated, and what makes the file of it.
KINDS: dict[str, tuple[str, bytes, Callable[[bytes], bytes]]] = {
    "image": (f"{STEM}_space-X_desc-preproc_bold.nii.gz", IMAGE, gzip.compress),
    "packed image": (
        f"{STEM}_space-X_desc-preproc_bold.nii.gz",
        gzip.compress(IMAGE),
        as_it_is,
    ),
    "labels": ("labels.nii", LABELS, as_it_is),
    "confounds": (f"{STEM}_desc-confounds_timeseries.tsv", TABLE, as_it_is),
    "sidecar": (
        f"{STEM}_space-X_desc-preproc_bold.json",
        b'{"RepetitionTime": 2.0, "TaskName": "rest"}',
        as_it_is,
    ),
}


def read(folder: Path) -> int:
    """The matrices that come out.  Raises: InputError."""
    images._labels.cache_clear()  # kept by path, and each mutant has the same
    images._on_grid.cache_clear()
    strategy = StrategyConfig("simple", motion="basic")
    connectivity = ConnectivityConfig(
        clean=CleanConfig(low_pass=None, strategy=strategy), min_volumes=2
    )
    source = SourceConfig(dir=str(folder), labels_image=str(folder / "labels.nii"))
    recipe = ShardRecipe(name="fuzz", reader="fmriprep", source=source, connectivity=connectivity)
    atlas, found = numbered("tiny", R), 0
    for scan in fmriprep.read(recipe, atlas):
        if isinstance(scan, Unread):
            found += len(connectivity_matrices(scan.read(), connectivity, atlas))
    return found


def put_whole(folder: Path) -> None:
    for name, data, finish in KINDS.values():
        (folder / name).write_bytes(finish(data))


def test_the_files_that_mutants_are_made_of_are_read(tmp_path: Path) -> None:
    put_whole(tmp_path)
    assert read(tmp_path) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # nibabel's and nilearn's, of what a header says
def test_a_damaged_file_is_read_or_named_in_one_line(kind: str, tmp_path: Path) -> None:
    name, data, finish = KINDS[kind]
    before = peak()
    for number in range(MUTANTS):
        put_whole(tmp_path)
        change = table_mutant if kind == "confounds" and number % 3 else mutant
        (tmp_path / name).write_bytes(finish(change(data, random.Random(f"{SEED}/{number}"))))
        problem = None
        try:
            read(tmp_path)
        except InputError as error:
            problem = len(str(error)) > 2000 and "a message without end"
        except BaseException as error:
            problem = f"{type(error).__name__}: {str(error)[:200]}"
        assert not problem, f"{kind}, seed {SEED}, mutant {number}: {problem}"
    assert peak() - before < GROWTH, f"{kind}: more memory than the files are worth"


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
