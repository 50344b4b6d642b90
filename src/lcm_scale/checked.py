"""Plain values out of a file that anybody may have written: each is what it should be, or an
InputError says what was found.

Every function takes the value and the name that the error gives it, and returns the value with its
type known. Whoever reads a file puts the file's name in front of the message. Nothing is made from
a value before it has passed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from lcm_scale.errors import InputError, nearest
from lcm_scale.terminal import one_line

Value = TypeVar("Value")

MOST = 1_000_000  # entries of a list or an object: what stands in a file's head is small
MOST_VALUES = 20_000_000  # of a whole file, those that stand in several places counted each time
DEEPEST = 20  # levels of plain values within each other
LARGEST_OBJECT = 2**26  # bytes of a JSON file; a configuration with 8,192 regions has two million
_SINGLE = {str, int, float, bool, type(None)}
LONGEST_NAME = 255  # bytes of a file's name, which is what file systems take


def read_object(path: Path, largest: int = LARGEST_OBJECT) -> dict[str, Any]:
    """A JSON file that holds an object.

    Args: largest: bytes that it may have: as Python's values they take up to thirty times as many.
    Raises: InputError.
    """
    if not path.is_file():  # a pipe would be waited for without end
        raise InputError(f"{path}: cannot be read (no such file)")
    try:
        size = path.stat().st_size
        if size > largest:
            raise InputError(f"{path}: {size:,} bytes; at most {largest:,} are read")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected an object")
    return data


@contextmanager
def damage_named(path: Path, what: str, advice: str) -> Iterator[None]:
    """What is found wrong inside the block as one line: the file, in words what that means of it,
    what to do.

    Raises: InputError.
    """
    try:
        yield
    except InputError as error:
        found = str(error).removeprefix(f"{path}: ")[:300]
        raise InputError(one_line(f"{path}: {what} ({found}); {advice}")) from error


def text(value: object, name: str) -> str:
    if not isinstance(value, str):
        _refuse(name, "text", value)
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: it could be written into no file
        _refuse(name, "text", value)
    return value


def flag(value: object, name: str) -> bool:
    return value if isinstance(value, bool) else _refuse(name, "true or false", value)


def whole(value: object, name: str, low: int, high: int) -> int:
    """A whole number between `low` and `high`, both included."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _refuse(name, f"a whole number from {low} to {high}", value)
    return value


def number(value: object, name: str, low: float = -1e30, high: float = 1e30) -> float:
    """A finite number between `low` and `high`, both included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        _refuse(name, f"a number from {low:g} to {high:g}", value)
    return float(value)


def choice(value: object, name: str, choices: Sequence[str]) -> str:
    """One of `choices`; else the error names the nearest."""
    if not isinstance(value, str) or value not in choices:
        hint = nearest(value, choices) if isinstance(value, str) else ""
        raise InputError(
            one_line(f"{name}: expected one of {', '.join(choices)}, found {_shown(value)}{hint}")
        )
    return value


def file_name(value: object, name: str) -> str:
    """The name of a file in the very folder of the file that names it."""
    if (
        not isinstance(value, str)
        or value in ("", "..")
        or Path(value).name != value
        or one_line(value) != value
        or len(value.encode()) > LONGEST_NAME
    ):
        _refuse(name, "the name of a file in its folder, without a path", value)
    return value


def entries(
    value: object, name: str, each: Callable[[object, str], Value], length: int | None = None
) -> tuple[Value, ...]:
    """A list whose every entry passes `each`, of the given length where there is one."""
    if not isinstance(value, list | tuple) or len(value) > MOST:
        _refuse(name, "a list", value)
    if length is not None and len(value) != length:
        _refuse(name, f"a list of {length}", value)
    return tuple(each(entry, f"{name}[{position}]") for position, entry in enumerate(value))


def all_of(value: object, name: str, kind: type) -> list[Any]:
    """A list of any length whose entries are all of one type, text or whole numbers; millions are
    seen in a moment."""
    if not isinstance(value, list) or not set(map(type, value)) <= {kind}:
        _refuse(name, f"a list of {'whole numbers' if kind is int else 'texts'}", value)
    if kind is str:
        text("".join(value), name)
    return value


def wholes(value: object, name: str, low: int, high: int) -> np.ndarray:
    """A list of any length of whole numbers between `low` and `high`, as int64."""
    numbers = all_of(value, name, int)
    if numbers and not low <= min(numbers) <= max(numbers) <= high:
        _refuse(name, f"whole numbers from {low} to {high}", value)
    return np.fromiter(numbers, np.int64, len(numbers))


def members(
    value: object,
    name: str,
    required: Iterable[str] = (),
    each: Callable[[object, str], Any] | None = None,
) -> dict[str, Any]:
    """An object with names for keys, which has all that are `required`.

    Args: each: what every member passes through; None: they stay as they are.
    """
    if not isinstance(value, Mapping) or len(value) > MOST:
        _refuse(name, "an object", value)
    for key in value:
        text(key, f"a key of {name}")
    missing = [key for key in required if key not in value]
    if missing:
        raise InputError(one_line(f"{name} has no {missing[0]}"))
    if each is None:
        return dict(value)
    return {key: each(member, f"{name}.{key}") for key, member in value.items()}


def plain(value: object, name: str, depth: int = DEEPEST) -> Any:
    """Anything that JSON can hold, as it is."""
    if not depth:
        _refuse(name, f"at most {DEEPEST} levels of values", value)
    if isinstance(value, Mapping):
        return members(value, name, each=lambda entry, inner: plain(entry, inner, depth - 1))
    if isinstance(value, list | tuple):
        return list(entries(value, name, lambda entry, inner: plain(entry, inner, depth - 1)))
    if isinstance(value, str):
        return text(value, name)
    if value is not None and not isinstance(value, bool | int | float):
        _refuse(name, "text, a number, a list or an object", value)
    return value


def bounded(value: object, name: str) -> None:
    """See that a file's values can be gone through: a pickle may hold one list in a million places
    of itself.

    Raises: InputError where there are more than MOST_VALUES.
    """
    waiting, seen = [value], 0
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, Mapping):
            inner = list(inner.values())
        if isinstance(inner, list | tuple):
            seen += len(inner)
            if seen > MOST_VALUES:
                raise InputError(f"{name}: more than {MOST_VALUES:,} values")
            if not set(map(type, inner)) <= _SINGLE:
                waiting.extend(inner)


def _refuse(name: str, expected: str, value: object) -> NoReturn:
    raise InputError(one_line(f"{name[:200]}: expected {expected}, found {_shown(value)}"))


def _shown(value: object) -> str:
    """A value as it fits into one line; of what is long or strange the type alone."""
    if isinstance(value, str | bool | int | float | None):
        if isinstance(value, str):
            value = value[:80]
        shown = repr(value) if not isinstance(value, int) or abs(value) < 1e30 else "a huge number"
        return shown if len(shown) <= 60 else f"{shown[:57]}..."
    if isinstance(value, list | tuple | Mapping):
        kind = "an object" if isinstance(value, Mapping) else "a list"
        return f"{kind} of {len(value)}"
    return f"a {type(value).__name__}"
