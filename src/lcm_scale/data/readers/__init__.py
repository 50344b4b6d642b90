"""One file a source, named here: each has `read(recipe, atlas)`, an iterator of `Unread` and
`Skipped`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from lcm_scale import plugins
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

Reader = Callable[[ShardRecipe, Atlas], Iterator[Unread | Skipped]]

READERS: dict[str, Reader] = {
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


def reader_of(name: str) -> Reader:
    """Args: name: of `READERS`, or as another package offers it.
    Raises: InputError where nobody does."""
    return READERS[name] if name in READERS else partial(_of_plugin, name)


def _of_plugin(name: str, recipe: ShardRecipe, atlas: Atlas) -> Iterator[Unread | Skipped]:
    """Raises: InputError for whatever the plug-in raises, or where it gives something else."""
    plugin, read = plugins.load_function("readers", name)
    for item in plugins.guarded(plugin, iter(read(recipe, atlas))):
        if not isinstance(item, Unread | Skipped):
            raise plugin.fault(f"gave a {type(item).__name__}, expected an Unread or a Skipped")
        if isinstance(item, Unread):
            item = replace(item, load=plugins.Guarded(plugin, item.load))
        yield item


def brings_its_files(recipe: ShardRecipe) -> bool:
    """Whether reading makes the raw files, which no dry run does."""
    return recipe.reader == "simulated"
