"""By what a scan that was read before is known again: a hash of everything that decides what its
file gives.

That is who it is, its files with their sizes and times, the recipe's connectivity, the regions, and
this program. What is only about tables and labels does not count, so a mended table costs nothing
that was read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path

import lcm_scale
from lcm_scale import plugins
from lcm_scale.atlas import Atlas
from lcm_scale.config import ShardRecipe, SourceConfig
from lcm_scale.data.recordings import Unread
from lcm_scale.identity import hash_text

# Keys with which one goes on after a bad file: they do not change what the other files hold.
ANSWERS = ("on_error", "leave_out", "same_person")
LIBRARIES = ("numpy", "scipy", "scikit-learn", "nilearn", "nibabel", "h5py")


class Marks:
    """The hashes of one set's scans, with the project's salt: nobody else can look a name up."""

    def __init__(self, recipe: ShardRecipe, atlas: Atlas, salt: bytes) -> None:
        self._salt = salt
        offered = plugins.offered("connectivities").get(recipe.connectivity.kind, ())
        conditions = [asdict(recipe.connectivity), recipe.dtype, atlas.to_json(), program()]
        conditions += map(asdict, offered)
        self._conditions = hash_text(salt, json.dumps(conditions, sort_keys=True))
        # By id: recipes and atlases are shared by all scans. The objects are kept with their words,
        # so that no other one gets their id.
        self._said: dict[int, tuple[object, str]] = {}

    def of(self, scan: Unread) -> str:
        """16 hex digits."""
        who = [scan.cohort, scan.subject, scan.session, scan.run, scan.source, scan.tr]
        said = [*map(repr, who), self._words(scan.load), self._conditions]
        return hash_text(self._salt, "\n".join(said))

    def _words(self, value: object) -> str:
        """A value in words that are the same in every process; a file's with its size and time."""
        if isinstance(value, partial):
            name = f"{value.func.__module__}.{value.func.__qualname__}"
            return self._words([name, value.args, value.keywords])
        if isinstance(value, Path):
            # What a table's columns mean may stand in a JSON file beside it.
            return f"{value} {_state(value)} {_state(value.with_suffix('.json'))}"
        if is_dataclass(value) and not isinstance(value, type):
            if id(value) not in self._said:
                left = ANSWERS if isinstance(value, SourceConfig) else ()
                names = [each.name for each in fields(value) if each.name not in left]
                words = self._words([(name, getattr(value, name)) for name in names])
                self._said[id(value)] = value, words
            return self._said[id(value)][1]
        if isinstance(value, Mapping):
            return self._words(list(value.items()))
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self._words, value))}]"
        return repr(value)


@cache
def program() -> str:
    """What reads: a hash of the package's source, and of the versions of the libraries under it."""
    found = []
    for library in LIBRARIES:
        try:
            found.append(metadata.version(library))
        except metadata.PackageNotFoundError:
            found.append("none")
    sources = sorted(Path(lcm_scale.__file__).parent.rglob("*.py"))
    return hash_text(b"".join(path.read_bytes() for path in sources), " ".join(found))


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "absent"
    return f"{found.st_size} {found.st_mtime_ns}"
