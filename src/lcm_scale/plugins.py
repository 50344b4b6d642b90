"""What other packages offer: readers, connectivities, protocols, metrics and baselines, by entry
points (docs/plugins.md).

Names are read from the metadata of installed packages, so that a recipe is checked without
importing any of them; a plug-in is imported when a recipe uses it. Whatever goes wrong in one is
told in a line that names its package and version.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from lcm_scale.errors import InputError, nearest

# What there may be of, and one of it in words. The entry points' group is `lcm_scale.` and the key.
KINDS = {
    "readers": "reader",
    "connectivities": "connectivity",
    "protocols": "protocol",
    "metrics": "metric",
    "baselines": "baseline",
}
MARK = "plug-in "  # begins the name of one among versions


@dataclass(frozen=True)
class Plugin:
    """One plug-in.

    Attributes:
        kind: a key of `KINDS`.   name: as recipes name it.   package, version: that offer it.
        place: ``module:object``, where it is defined.
    """

    kind: str
    name: str
    package: str
    version: str
    place: str

    @property
    def words(self) -> str:
        """As messages and reports name it."""
        return f"{KINDS[self.kind]} '{self.name}' of {self.package} {self.version}"

    def fault(self, what: object) -> InputError:
        """Something wrong with it, in one line.  Args: what: words, or what it raised."""
        if isinstance(what, BaseException):
            what = f"{type(what).__name__}: {what}"
        return InputError(" ".join(f"plug-in {self.words}: {what}".split()))


@dataclass(frozen=True)
class Guarded:
    """A function of a plug-in: what it raises becomes one line. Processes can send it to each other
    where they can send the function.
    """

    plugin: Plugin
    function: Callable[..., Any]

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Raises: InputError for whatever the function raises."""
        try:
            return self.function(*values, **named)
        except InputError:
            raise
        except Exception as error:  # theirs are of any class
            raise self.plugin.fault(error) from error


@functools.cache
def offered(kind: str) -> dict[str, tuple[Plugin, ...]]:
    """Name -> the plug-ins of that name: several where packages are at odds. Nothing is imported.

    Args: kind: a key of `KINDS`.
    """
    found: dict[str, list[Plugin]] = {}
    for entry in metadata.entry_points(group=f"lcm_scale.{kind}"):
        name, version = (entry.dist.name, entry.dist.version) if entry.dist else ("?", "?")
        found.setdefault(entry.name, []).append(
            Plugin(kind, entry.name, name, version, entry.value)
        )
    return {name: tuple(dict.fromkeys(same)) for name, same in sorted(found.items())}


def find(kind: str, name: str, built_in: tuple[str, ...] = ()) -> Plugin | None:
    """The one plug-in of a name; None where none offers it.

    Args: built_in: names that are taken.
    Raises: InputError where the name is taken, or several packages offer it.
    """
    same = offered(kind).get(name, ())
    if same and name in built_in:
        raise same[0].fault("a built-in one has that name; uninstall the package, or rename it")
    if len(same) > 1:
        raise same[0].fault(f"{same[1].package} {same[1].version} offers that name too")
    return same[0] if same else None


_used: dict[str, str] = {}  # what this process has loaded, in words -> its version


def load(kind: str, name: str) -> tuple[Plugin, Any]:
    """A plug-in, imported.

    Raises: InputError where no package offers it, or it cannot be imported.
    """
    plugin = find(kind, name)
    if plugin is None:
        there = tuple(offered(kind))
        raise InputError(
            f"{KINDS[kind]} '{name}' is neither built in nor offered by an installed package"
            f"{nearest(name, there)}"
        )
    try:
        found = metadata.EntryPoint(name, plugin.place, f"lcm_scale.{kind}").load()
    except Exception as error:  # theirs are of any class
        raise plugin.fault(error) from error
    _used[f"{MARK}{plugin.package} ({KINDS[kind]} {name})"] = plugin.version
    return plugin, found


def load_function(kind: str, name: str) -> tuple[Plugin, Guarded]:
    """A plug-in that is a function.  Raises: InputError as `load`, and where it is none."""
    plugin, function = load(kind, name)
    if not callable(function):
        raise plugin.fault(f"{plugin.place} is a {type(function).__name__}, expected a function")
    return plugin, Guarded(plugin, function)


def guarded(plugin: Plugin, items: Iterator[Any]) -> Iterator[Any]:
    """The same items; what comes while they are made becomes one line.  Raises: InputError."""
    following = Guarded(plugin, next)
    done = object()
    while (item := following(items, done)) is not done:
        yield item


def used() -> dict[str, str]:
    """Those that this process has loaded, in words -> their packages' versions, for whatever says
    where its numbers come from."""
    return dict(_used)


def named_in(versions: Mapping[str, str]) -> dict[str, str]:
    """Of such versions, as they were written down, those of plug-ins."""
    return {key: value for key, value in versions.items() if key.startswith(MARK)}
