"""NIfTI images: a label image checked against its atlas, and the means of an image's regions.

What a header claims is compared with the bounds below before memory is taken; a long series is read
in pieces. Nothing in a NIfTI file is run or unpickled.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.errors import InputError, not_installed
from lcm_scale.limits import is_file, refuse_too_many
from lcm_scale.terminal import one_line

IMAGES = (".nii", ".nii.gz")
# Voxels of one volume: that of the HCP at .7 mm, in a box, has 21 million.
MOST_VOXELS = 2**26
# Numbers of a series: four joined HCP runs at 2 mm have 4.3 thousand million.
MOST_NUMBERS = 2**33
PIECE = 2**23  # numbers that are read at once: 64 MiB as float64; more is slower (docs/log.md)
SMALLEST = 1e-6  # mm3 of a voxel; the largest is one over it
LONGEST_TR = 30.0  # seconds
SPACE = re.compile(r"(?:^|_)(?:tpl|space)-([A-Za-z0-9]+)(?:_|$)")
SECONDS = {"sec": 1.0, "msec": 1e-3}
LISTED = 6  # labels that a message names


def named_space(name: str) -> str:
    """The space that a file's name says, '' where it says none: `tpl-X_...`, `..._space-X_...`."""
    found = SPACE.search(name.partition(".")[0])
    return found[1] if found else ""


def check_labels(path: Path, atlas: Atlas) -> None:
    """See that a label image holds whole numbers, regions of the atlas and no others.

    Raises: InputError.
    """
    _labels(path, atlas)


def repetition_time(path: Path) -> float | None:
    """Seconds between volumes as a header says with its unit; None where it does not, or the file
    cannot be read: who reads the numbers says so."""
    try:
        image = _opened(path)
        zooms = image.header.get_zooms()
        unit = SECONDS.get(image.header.get_xyzt_units()[1])
    except (InputError, ArithmeticError, LookupError, ValueError):
        return None
    if unit is None or len(zooms) != 4:
        return None
    seconds = round(float(zooms[3]) * unit, 6)  # the header's float32: .8 s, not .800000012
    return seconds if 0 < seconds <= LONGEST_TR else None


def region_means(
    path: Path, labels_image: Path, atlas: Atlas
) -> tuple[np.ndarray, tuple[int, ...]]:
    """The mean of each region's voxels at each volume.

    Returns: (T, R') series; the atlas indices of its columns, which lack the labels that the label
        image has not, or loses on the image's grid.
    Raises: InputError where the image cannot be read, or lies elsewhere than the label image.
    """
    image = _opened(path)
    if image.ndim != 4 or image.shape[3] < 2:
        raise InputError(f"{path}: {_shape(image)}; expected a series of volumes (x, y, z, time)")
    _refuse_large(image, path)
    affine = np.asarray(image.affine, dtype=np.float64)
    labels, regions = _on_grid(labels_image, atlas, image.shape[:3], affine.tobytes())
    if not regions:
        raise InputError(
            f"{path}: no region of {labels_image} lies within it; the two are in different spaces"
        )
    refuse_too_many((image.shape[3], len(regions)), f"{path}, volumes by regions")
    step = max(1, PIECE // math.prod(image.shape[:3]))
    try:
        masker = (
            _nilearn()
            .maskers.NiftiLabelsMasker(labels, standardize=None, resampling_target=None)
            .fit()
        )
        pieces = [
            masker.transform(image.slicer[..., start : start + step])
            for start in range(0, image.shape[3], step)
        ]
    except Exception as error:  # nibabel and nilearn raise whatever a damaged file makes them
        raise _unreadable(path, error) from error
    series = np.concatenate(pieces).astype(np.float64)
    assert series.shape == (image.shape[3], len(regions))
    return series, regions


@lru_cache(maxsize=4)  # scans of one set lie on one grid, or a few
def _on_grid(
    path: Path, atlas: Atlas, shape: tuple[int, int, int], affine: bytes
) -> tuple[Any, tuple[int, ...]]:
    """A label image on another grid, and the labels that it has there, ascending.

    Args: affine: float64 (4, 4).
    """
    labels = _labels(path, atlas)
    grid = _nibabel().Nifti1Image(
        np.zeros(shape, dtype=np.int32), np.frombuffer(affine).reshape(4, 4)
    )
    try:
        moved = _nilearn().image.resample_to_img(
            labels, grid, interpolation="nearest", copy_header=True, force_resample=True
        )
    except Exception as error:  # a grid that is turned, squeezed or huge beyond any brain
        raise _unreadable(path, error) from error
    values = np.asanyarray(moved.dataobj).astype(np.int32)
    regions = tuple(int(label) for label in np.unique(values) if label != 0)
    return _nibabel().Nifti1Image(values, grid.affine), regions


@lru_cache(maxsize=2)
def _labels(path: Path, atlas: Atlas) -> Any:
    """A label image as int32."""
    image = _opened(path)
    if image.ndim == 4 and image.shape[3] == 1:
        image = image.slicer[..., 0]
    if image.ndim != 3:
        raise InputError(
            f"{path}: {_shape(image)}; expected one volume of labels (source.labels_image)"
        )
    _refuse_large(image, path)
    try:
        values = np.asanyarray(image.dataobj)
    except Exception as error:  # zlib's and nibabel's
        raise _unreadable(path, error) from error
    if (
        values.dtype.kind not in "fiu"
        or not (np.isfinite(values) & (values == np.round(values))).all()
    ):
        raise InputError(
            f"{path}: holds numbers that are not whole; expected a region's index at each voxel "
            "(source.labels_image)"
        )
    present = {int(label) for label in np.unique(values)} - {0}
    foreign = sorted(present - set(atlas.indices))
    if foreign:
        listed = ", ".join(map(str, foreign[:LISTED]))
        more = f" and {len(foreign) - LISTED} more" if len(foreign) > LISTED else ""
        raise InputError(
            f"{path}: labels {listed}{more} are no regions of atlas {atlas.name}; the recipe's "
            "atlas is the table of this very image"
        )
    if not present:
        raise InputError(f"{path}: holds no label (source.labels_image)")
    return _nibabel().Nifti1Image(values.astype(np.int32), image.affine)


def _opened(path: Path) -> Any:
    """A NIfTI image, of which the header alone is read.  Raises: InputError."""
    if not path.name.endswith(IMAGES) or not is_file(path):
        raise InputError(f"{path}: no such image ({' or '.join(IMAGES)})")
    nibabel = _nibabel()
    try:
        with nibabel.imageglobals.LoggingOutputSuppressor():  # it would print in front of the line
            # Read on from piece to piece; else each would be unpacked from the start.
            image = nibabel.load(path, keep_file_open=True)
            volume = abs(np.linalg.det(image.affine[:3, :3]))  # of a voxel, mm3
    except Exception as error:  # nibabel raises whatever a damaged header makes it
        raise _unreadable(path, error) from error
    if not isinstance(image, nibabel.Nifti1Image) or not np.isfinite(image.affine).all():
        raise InputError(f"{path}: cannot be read as NIfTI")
    if not SMALLEST < volume < 1 / SMALLEST:
        raise InputError(f"{path}: its header gives a voxel {volume:.3g} mm3, which no scan has")
    return image


def _refuse_large(image: Any, path: Path) -> None:
    """By what the header claims."""
    voxels, numbers = math.prod(image.shape[:3]), math.prod(image.shape)
    if min(image.shape) < 1 or voxels > MOST_VOXELS or numbers > MOST_NUMBERS:
        raise InputError(
            f"{path}: {_shape(image)} values; at most {MOST_VOXELS:,} a volume and "
            f"{MOST_NUMBERS:,} in all are read"
        )


def _shape(image: Any) -> str:
    return " x ".join(map(str, image.shape))


def _unreadable(path: Path, error: Exception) -> InputError:
    said = one_line(str(error))[:120]
    return InputError(f"{path}: cannot be read as NIfTI ({type(error).__name__}: {said})")


def _nibabel() -> Any:
    _nilearn()
    import nibabel

    return nibabel


def _nilearn() -> Any:
    try:
        import nilearn.image  # a second, for who reads images alone
        import nilearn.maskers
    except ImportError as error:
        raise not_installed("reader fmriprep", "nilearn", "imaging") from error
    return nilearn
