"""Plain values out of a file that anybody may have written: each is what it should be, or an
InputError says what was found.

Every function takes the value and the name that the error gives it, and returns the value with its
type known. Whoever reads a file puts the file's name in front of the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from lcm_scale.errors import InputError, nearest

Value = TypeVar("Value")

MOST = 1_000_000  # entries of a list or an object: what stands in a file's head is small
DEEPEST = 20  # levels of plain values within each other


def text(value: object, name: str) -> str:
    return value if isinstance(value, str) else _refuse(name, "text", value)


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
            f"{name}: expected one of {', '.join(choices)}, found {_shown(value)}{hint}"
        )
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
        if not isinstance(key, str):
            _refuse(f"a key of {name}", "text", key)
    missing = [key for key in required if key not in value]
    if missing:
        raise InputError(f"{name} has no {missing[0]}")
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
    if value is not None and not isinstance(value, str | bool | int | float):
        _refuse(name, "text, a number, a list or an object", value)
    return value


def _refuse(name: str, expected: str, value: object) -> NoReturn:
    raise InputError(f"{name}: expected {expected}, found {_shown(value)}")


def _shown(value: object) -> str:
    """A value as it fits into one line; of what is long or strange the type alone."""
    if isinstance(value, str | bool | int | float | None):
        shown = repr(value) if not isinstance(value, int) or abs(value) < 1e30 else "a huge number"
        return shown if len(shown) <= 60 else f"{shown[:57]}..."
    if isinstance(value, list | tuple | Mapping):
        kind = "an object" if isinstance(value, Mapping) else "a list"
        return f"{kind} of {len(value)}"
    return f"a {type(value).__name__}"
