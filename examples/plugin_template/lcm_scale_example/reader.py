"""A reader: folders named after the diagnosis, with a CSV of region series for each person.

``raw/CN/sub01.csv`` is person sub01, a row a volume and a column a region in the atlas's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, expand
from lcm_scale.data.recordings import ScanArrays, Skipped, Unread
from lcm_scale.errors import InputError


def read(recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """List the scans; no file is opened here.

    Args: recipe: `source.dir` is the folder, `source.tr` the repetition time.
    Raises: InputError where there is no such folder.
    """
    folder = expand(recipe.source.dir or "")
    if not recipe.source.dir or not folder.is_dir():
        raise InputError(f"source.dir: {folder} is no folder; expected one folder a diagnosis")
    for file in sorted(folder.glob("*/*.csv")):
        if not file.stat().st_size:
            yield Skipped(str(file), "empty file")
            continue
        yield Unread(
            recipe.cohort or recipe.name,
            file.stem,
            str(file),
            tr=recipe.source.tr,
            labels={"diagnosis": file.parent.name},
            load=partial(_load, file),  # a function at the top of a module: other processes call it
        )


def _load(file: Path) -> ScanArrays:
    return ScanArrays(np.loadtxt(file, delimiter=",", ndmin=2), None, None)
