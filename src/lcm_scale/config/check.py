"""Whether a composed recipe may be run: every value against the constraint beside its field."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, cast, get_args, get_type_hints

from lcm_scale.config.fields import KEY, Constraint
from lcm_scale.errors import InputError


def check(recipe: Any, where: str) -> None:
    """Raises: InputError naming the first key whose value its constraint refuses."""
    for key, value, constraint in values_of(recipe):
        for one in _each(value):
            wrong = constraint.refuses(one)
            if wrong:
                raise InputError(f"{where}: {key}={_shown(one)}{wrong}")


def values_of(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, Constraint]]:
    """(dotted key, value, constraint) of every field, sections and lists of sections included."""
    for each in fields(section):
        key, value = f"{prefix}{each.name}", getattr(section, each.name)
        if is_dataclass(value):
            yield from values_of(value, f"{key}.")
        elif isinstance(value, list) and value and all(map(is_dataclass, value)):
            for inner in value:
                yield from values_of(inner, f"{key}.")
        elif KEY in each.metadata:
            yield key, value, each.metadata[KEY]


def fields_of(schema: type, prefix: str = "") -> Iterator[tuple[str, Any, Constraint | None]]:
    """(dotted key, type, constraint) of every field that a schema can hold, entries of lists of
    sections included."""
    hints = get_type_hints(schema)
    for each in fields(schema):
        kind, key = hints[each.name], f"{prefix}{each.name}"
        inner = next((a for a in get_args(kind) if is_dataclass(a)), None)
        if is_dataclass(kind):
            yield from fields_of(kind, f"{key}.")  # type: ignore[arg-type]
        elif inner is not None:
            yield from fields_of(cast(type, inner), f"{key}.")
        else:
            yield key, kind, each.metadata.get(KEY)


@functools.cache
def may_differ(schema: type) -> frozenset[str]:
    """Dotted keys that may change between the beginning of a run and its going on."""
    return frozenset(key for key, _, made in fields_of(schema) if made and made.may_differ)


def _each(value: Any) -> Iterator[Any]:
    """A value, or what a list or mapping holds; nothing for None."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
    elif value is not None:
        yield value


def _shown(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
