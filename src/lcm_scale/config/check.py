"""Whether values are what a schema's fields allow: every section, list and mapping, to the bottom.

`check_section` reads plain data, as they come from a file or an override. It is asked of each layer
of a recipe, so that a message names the file or the override in which the mistake stands, and of
the whole recipe once its references are resolved.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from lcm_scale import plugins
from lcm_scale.config.fields import Constraint, described, section_of
from lcm_scale.errors import InputError, nearest
from lcm_scale.terminal import one_line

LARGEST = 2**63 - 1  # that a whole number may be: what torch and NumPy count in
# What YAML 1.1 takes for true and false: as text in a recipe, but for a key that is either.
FLAGS = {"yes": True, "on": True, "no": False, "off": False}
REFERENCE = "${"  # opens OmegaConf's reference to another key
# Control characters and halves of surrogate pairs: no file, page or terminal takes them as they
# are.
NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
LONGEST_SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True)
class Place:
    """Where a value stands.

    Attributes:
        where: the file or the override.   key: dotted.
    """

    where: str
    key: str

    def fault(self, value: Any, expected: str) -> InputError:
        """An error in one line that names the place."""
        return InputError(one_line(f"{self.where}: {self.key}={shown(value)}: {expected}"))


def check_section(
    data: Mapping[str, Any], schema: type, where: str, prefix: str = "", final: bool = False
) -> None:
    """See that data fit a schema.

    Args:
        data: any of the schema's keys.   where: the file or override that they come from.
        prefix: of the section's keys, with its dot.
        final: nothing else will be laid over the data, so no reference to another key is left.
    Raises: InputError naming `where` and the key, in one line.
    """
    known = described(schema)
    for name, value in data.items():
        if name not in known:
            raise InputError(
                one_line(
                    f"{where}: unknown key '{prefix}{shown(name)}'{nearest(str(name), known)} "
                    f"(known: {', '.join(known)})"
                )
            )
        one = known[name]
        _check(value, one.type, one.constraint, Place(where, f"{prefix}{name}"), final)


def shown(value: Any) -> str:
    """A value as a message quotes it."""
    plain = {None: "null", True: "true", False: "false"}
    word = plain[value] if value is None or isinstance(value, bool) else str(value)
    return word if len(word) <= LONGEST_SHOWN else f"{word[:LONGEST_SHOWN]}..."


def _check(value: Any, kind: Any, constraint: Constraint, place: Place, final: bool) -> None:
    if isinstance(value, str) and REFERENCE in value and not final:
        return  # its value is known when all layers lie on each other
    if type(None) in get_args(kind):
        if value is None:
            return
        kind = next(k for k in get_args(kind) if k is not type(None))
    section = section_of(kind)
    if get_origin(kind) is list:
        _check_list(value, get_args(kind)[0], constraint, place, final)
    elif get_origin(kind) is dict:
        _mapping(value, place, "expected a mapping, as in {name: value}")
        for key, item in value.items():
            _check_text(key, Constraint(), place)
            inner = Place(place.where, f"{place.key}.{key}")
            _check(item, get_args(kind)[1], constraint, inner, final)
    elif section is not None:
        _mapping(value, place, f"expected keys and values ({', '.join(described(section))})")
        check_section(value, section, place.where, f"{place.key}.", final)
    elif kind is Any:
        _check_anything(value, place)
    elif kind is bool:
        if not isinstance(value, bool) and str(value).lower() not in FLAGS:
            raise place.fault(value, "expected true or false")
    elif kind is str:
        _check_text(value, constraint, place)
    else:
        _check_number(value, kind, constraint, place)


def _mapping(value: Any, place: Place, expected: str) -> None:
    if not isinstance(value, Mapping):
        raise place.fault(value, expected)


def _check_list(value: Any, kind: Any, constraint: Constraint, place: Place, final: bool) -> None:
    if not isinstance(value, list):
        raise place.fault(value, "expected a list, as in [one, two]")
    for item in value:
        _check(item, kind, constraint, place, final)
    if len(value) < constraint.least:
        raise place.fault(value, f"expected at least {constraint.least} of them")
    if constraint.unique and len({str(item) for item in value}) < len(value):
        raise place.fault(value, "one of them is named twice")


def _check_text(value: Any, constraint: Constraint, place: Place) -> None:
    """A whole number is read as the text that it is written with; nothing else is, since YAML has
    changed it already (yes to true, 1.10 to 1.1)."""
    if not isinstance(value, str) and type(value) is not int:
        quoted = isinstance(value, bool | float)
        raise place.fault(value, f"expected text{'; put it in quotes' if quoted else ''}")
    word = str(value)
    if NOT_TEXT.search(word):
        raise place.fault(word, "text must not hold control characters")
    if constraint.plugins or constraint.choices:
        _check_choice(word, constraint, place)
    if constraint.form is not None and not constraint.form.fits(word):
        raise InputError(
            one_line(f"{place.where}: {place.key} '{shown(word)}': {constraint.form.sentence}")
        )


def _check_choice(word: str, constraint: Constraint, place: Place) -> None:
    if constraint.plugins and plugins.find(constraint.plugins, word, constraint.choices):
        return
    if word not in constraint.choices:
        more = plugins.offered(constraint.plugins) if constraint.plugins else {}
        known = (*constraint.choices, *more)
        listed = f"one of {', '.join(known)}" if known else "no installed package offers one"
        raise InputError(
            one_line(f"{place.where}: {place.key}={shown(word)}{nearest(word, known)} ({listed})")
        )


def _check_number(value: Any, kind: type, constraint: Constraint, place: Place) -> None:
    what = "a whole number" if kind is int else "a number"
    bounds = constraint.bounds
    expected = f"expected {what} {bounds}".rstrip()
    allowed = (int,) if kind is int else (int, float)
    if type(value) not in allowed:
        raise place.fault(value, expected)
    if isinstance(value, int) and abs(value) > LARGEST:
        raise place.fault(value, f"expected {what} of at most {LARGEST}")
    if not math.isfinite(value) or not constraint.within(value):
        raise place.fault(value, expected)


def _check_anything(value: Any, place: Place) -> None:
    """What only its user can judge: finite numbers and printable text, however nested."""
    if isinstance(value, str):
        _check_text(value, Constraint(), place)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(value, float, Constraint(), place)
    elif isinstance(value, list):
        for item in value:
            _check_anything(item, place)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check_text(key, Constraint(), place)
            _check_anything(item, Place(place.where, f"{place.key}.{key}"))
