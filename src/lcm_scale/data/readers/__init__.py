"""One file a source, named here: each has `read(recipe, atlas)`, an iterator of `Recording` and
`Skipped`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe
from lcm_scale.data.readers import abide, auckland, mat, names, simulated, table
from lcm_scale.data.recordings import Recording, Skipped

READERS: dict[str, Callable[[ShardRecipe, Atlas], Iterator[Recording | Skipped]]] = {
    "abide": abide.read,
    "auckland": auckland.read,
    "mat": mat.read,
    "names": names.read,
    "table": table.read,
    "simulated": simulated.read,
}
