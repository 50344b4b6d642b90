"""Where regions lie, a map as an image, and a connectome that can be turned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.atlas import Atlas, square
from lcm_scale.data.readers.images import check_labels
from lcm_scale.errors import InputError, not_installed
from lcm_scale.explain.figures import COLOURS, change, faces, furthest
from lcm_scale.explain.found import Found, TokenMap
from lcm_scale.explain.levels import EDGES, REGIONS
from lcm_scale.files import replacing


def check_installed() -> None:
    """Raises: InputError where nilearn is not installed."""
    try:
        import nilearn  # noqa: F401
    except ImportError as error:
        raise not_installed("explain", "nilearn", "explain") from error


def centres(atlas: Atlas, image: Path | None) -> np.ndarray | None:
    """(R, 3) mm: of the atlas's table, else of a label image, else None.

    Raises: InputError where the image is not the atlas's.
    """
    if image is not None:
        check_labels(image, atlas)
    if atlas.coordinates:
        return np.array(atlas.coordinates)
    if image is None:
        return None
    from nilearn.plotting import find_parcellation_cut_coords

    places, labels = find_parcellation_cut_coords(_labels(image), return_label_names=True)
    by_label = {int(label): place for label, place in zip(labels, places, strict=True)}
    missing = [index for index in atlas.indices if index not in by_label]
    if missing:
        raise InputError(f"{image}: holds no region {missing[0]} of atlas {atlas.name}")
    return np.array([by_label[index] for index in atlas.indices])


def write_image(values: np.ndarray, atlas: Atlas, image: Path, path: Path) -> None:
    """Regional values (R,) as an image on the label image's grid.  Raises: InputError where it
    cannot be written."""
    import nibabel

    labels = _labels(image)
    codes = np.asarray(labels.dataobj).astype(np.int64)
    found = np.zeros(codes.shape, dtype=np.float32)
    for index, value in zip(atlas.indices, values, strict=True):
        found[codes == index] = value
    with replacing(path) as aside:
        # nibabel goes by a file's ending.
        nifti = nibabel.Nifti1Image(found, labels.affine)
        aside.write_bytes(_gzipped(nifti.to_bytes()))


def turnable(found: Found, token: TokenMap, places: np.ndarray) -> str:
    """A page of nilearn's `view_connectome` with the edges of `figures.brain`, which needs no other
    file; '' where no edge differs."""
    from nilearn.plotting import view_connectome

    own = token.levels.get(EDGES)
    if own is None or not own.differs.any():
        return ""
    view = view_connectome(
        square(furthest(token), found.levels.atlas.n_regions),
        places,
        edge_threshold=None,
        edge_cmap=COLOURS,
        symmetric_cmap=True,
        linewidth=4.0,
        node_color=faces(token),
        node_size=4.0,
        colorbar_height=0.4,
        colorbar_fontsize=13,
    )
    # The page names an icon of nilearn's web site, which an offline page cannot load.
    return re.sub(r"<link rel=\"icon\".*?/>", "", view.get_standalone(), flags=re.DOTALL)


def image_values(token: TokenMap) -> dict[str, np.ndarray]:
    """Of a token's images: all regional values, and those that differ from noise."""
    if REGIONS not in token.levels:
        return {}
    values = change(token, REGIONS)
    return {"regions": values, "regions-differ": values * token.levels[REGIONS].differs}


def _labels(image: Path) -> Any:
    import nibabel

    found = nibabel.load(image)
    return found.slicer[..., 0] if found.ndim == 4 else found


def _gzipped(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, mtime=0)  # the same values are the same file
