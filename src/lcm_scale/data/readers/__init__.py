"""One file a source, named here: each has `read(recipe, atlas)`, an iterator of `Unread` and
`Skipped`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe
from lcm_scale.data.readers import (
    abide,
    auckland,
    bids,
    conn,
    dpabi,
    fmriprep,
    giga_connectome,
    mat,
    names,
    simulated,
    stack,
    table,
)
from lcm_scale.data.recordings import Skipped, Unread

READERS: dict[str, Callable[[ShardRecipe, Atlas], Iterator[Unread | Skipped]]] = {
    "abide": abide.read,
    "auckland": auckland.read,
    "bids": bids.read,
    "conn": conn.read,
    "dpabi": dpabi.read,
    "fmriprep": fmriprep.read,
    "giga_connectome": giga_connectome.read,
    "mat": mat.read,
    "names": names.read,
    "stack": stack.read,
    "table": table.read,
    "simulated": simulated.read,
}


def brings_its_files(recipe: ShardRecipe) -> bool:
    """Whether reading makes the raw files, which no dry run does."""
    return recipe.reader == "simulated"
