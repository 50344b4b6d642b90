"""How a field of a recipe carries what its values may be: helpers that stand where a default would.

`width: int | None = at_least(1, None)` is a dataclass field whose default is None and whose values
are refused below 1; the type comes from the annotation, the rest lies in the field's metadata. In a
field that is a list or a mapping the constraint holds for each item. `check` reads all this.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

KEY = "constraint"  # in a field's metadata


@dataclass(frozen=True)
class Form:
    """A shape that text has.

    Attributes:
        sentence: what a message says of it.   fits: whether a text has it.
    """

    sentence: str
    fits: Callable[[str], bool]


@dataclass(frozen=True)
class Constraint:
    """What the values of a field may be, beside their type.

    Attributes:
        choices: the only texts; empty: any.
        plugins: of which kind other packages may offer more of them, '' none.
        low, high: bounds of a number, themselves allowed but where `above` or `below` says that
            they are not. None: no bound.
        form: of a text.
        least: items that a list has at the fewest.   unique: no item of the list comes twice.
        may_differ: a run may go on with another value than it was started with.
        after_divergence: it may once its loss is no number any more.
    """

    choices: tuple[str, ...] = ()
    plugins: str = ""
    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False
    form: Form | None = None
    least: int = 0
    unique: bool = False
    may_differ: bool = False
    after_divergence: bool = False

    @property
    def bounds(self) -> str:
        """The bounds in words, '' where there are none."""
        words = []
        if self.low is not None:
            words.append(f"above {self.low}" if self.above else f"from {self.low} on")
        if self.high is not None:
            words.append(f"below {self.high}" if self.below else f"up to {self.high}")
        return " and ".join(words)

    def within(self, number: float) -> bool:
        """Whether a number keeps the bounds."""
        low = self.low is None or (number > self.low if self.above else number >= self.low)
        high = self.high is None or (number < self.high if self.below else number <= self.high)
        return low and high


def _field(default: Any, constraint: Constraint) -> Any:
    metadata = {KEY: constraint}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def free(default: Any, may_differ: bool = False) -> Any:
    """Any value of the field's type."""
    return _field(default, Constraint(may_differ=may_differ))


def choice(
    default: str,
    *others: str,
    may_differ: bool = False,
    after_divergence: bool = False,
    plugins: str = "",
) -> Any:
    """One of a few words, the default first, or of those that `plugins` of a kind are called."""
    return _field(
        default,
        Constraint(
            choices=(default, *others),
            plugins=plugins,
            may_differ=may_differ,
            after_divergence=after_divergence,
        ),
    )


def one_of(*words: str) -> Any:
    """One of a few words, or nothing."""
    return _field(None, Constraint(choices=words))


def some_of(
    choices: Iterable[str], default: Iterable[str], may_differ: bool = False, plugins: str = ""
) -> Any:
    """A list of a few words, or of those that `plugins` of a kind are called, none of them
    twice."""
    return _field(
        list(default),
        Constraint(choices=tuple(choices), plugins=plugins, unique=True, may_differ=may_differ),
    )


def at_least(
    low: float, default: Any, may_differ: bool = False, after_divergence: bool = False
) -> Any:
    """A number from `low` on."""
    return _field(
        default, Constraint(low=low, may_differ=may_differ, after_divergence=after_divergence)
    )


def positive(default: Any, may_differ: bool = False, after_divergence: bool = False) -> Any:
    """A number above 0."""
    return _field(
        default,
        Constraint(low=0, above=True, may_differ=may_differ, after_divergence=after_divergence),
    )


def share(default: Any, may_differ: bool = False) -> Any:
    """A part of a whole that leaves something over: from 0 on and below 1."""
    return _field(default, Constraint(low=0, high=1, below=True, may_differ=may_differ))


def between(low: float, high: float, default: Any, above: bool = False) -> Any:
    """A number between two bounds, both allowed; `above`: not the lower one."""
    return _field(default, Constraint(low=low, high=high, above=above))


def text(form: Form, default: Any, may_differ: bool = False) -> Any:
    """Text of a certain shape."""
    return _field(default, Constraint(form=form, may_differ=may_differ))


def texts(unique: bool = True) -> Any:
    """A list of texts that say something, none of them twice; empty by default."""
    return _field([], Constraint(form=FILLED, unique=unique))


def sections(*default: Any, least: int = 0) -> Any:
    """A list of sections, at least so many of them."""
    return _field(list(default), Constraint(least=least))


# -- shapes of text --------------------------------------------------------------------------------

LONGEST_PART = 200  # bytes of UTF-8: file systems take 255, and what is written aside adds to it


def _is_part(word: str) -> bool:
    """One folder's name: nothing that a path, a shell or HDF5 takes for something else."""
    return (
        re.fullmatch(r"[\w.@+= -]+", word) is not None
        and word == word.strip()
        and word not in (".", "..")
        and len(word.encode(errors="replace")) <= LONGEST_PART
    )


def _is_regular_expression(pattern: str) -> bool:
    try:
        return re.compile(pattern).groups > 0
    except (re.error, RecursionError, OverflowError):
        return False


def _names_a_subject(pattern: str) -> bool:
    return _is_regular_expression(pattern) and "subject" in re.compile(pattern).groupindex


def _is_glob(pattern: str) -> bool:
    parts = pattern.split("/")
    return all(parts) and all("**" not in part or part == "**" for part in parts)


SEX = Form("expected M, F, or '' for a missing one", lambda word: word in ("M", "F", ""))
FILLED = Form("must not be empty", lambda word: bool(word.strip()))
RUN_NAME = Form(
    "a name holds letters, digits, spaces and - _ . @ + =, with / between its parts; it does not "
    "leave the folder",
    lambda name: not name or all(_is_part(part) for part in name.split("/")),
)
SET_NAME = Form(
    # A dot would end the key of a tar's records.
    "a shard set's name holds letters, digits, - and _ only",
    lambda name: not name or (re.fullmatch(r"[\w-]+", name) is not None and _is_part(name)),
)
GROUP_NAME = Form(
    "a label group's name holds letters, digits, spaces and - _ . @ + only",
    lambda name: _is_part(name) and "=" not in name,
)
COLUMN_NAME = Form(
    "a label column's name holds letters, digits, spaces and - _ . @ + only; rename it in the "
    "table",
    lambda name: not name or GROUP_NAME.fits(name),
)
LABEL_COUNT = Form(
    "a whole number of people from 2 on, or all",
    lambda word: word == "all" or (re.fullmatch(r"\d{1,9}", word) is not None and int(word) >= 2),
)
ONE_GROUP = Form(
    "expected a regular expression with one group in brackets, as in sub-(\\d+)",
    _is_regular_expression,
)
SUBJECT_GROUP = Form(
    "the expression holds a group named subject, as in sub-(?P<subject>\\d+)",
    _names_a_subject,
)
GLOB = Form(
    "expected a pattern of files below source.dir, such as *.mat or **/*.mat, not an absolute path",
    _is_glob,
)


# -- what a schema says of its fields --------------------------------------------------------------


@dataclass(frozen=True)
class Described:
    """A field as `check` sees it: its type and what constrains its values."""

    type: Any
    constraint: Constraint


@functools.cache
def described(schema: type) -> dict[str, Described]:
    """Every field of a schema by name."""
    hints = get_type_hints(schema)
    return {
        one.name: Described(hints[one.name], one.metadata.get(KEY, Constraint()))
        for one in fields(schema)
    }


def choices_of(schema: type, name: str) -> tuple[str, ...]:
    """The words that a field of choices takes, in the order of its definition."""
    return described(schema)[name].constraint.choices


def section_of(kind: Any) -> type | None:
    """The schema of a section, or of a list of sections; None for anything else."""
    inner = get_args(kind)[0] if isinstance(kind, type(list[int])) else kind
    return inner if isinstance(inner, type) and is_dataclass(inner) else None


def dotted(values: object, prefix: str = "") -> dict[str, Any]:
    """Sections within sections as one level of dotted keys; nothing for what is no section."""
    flat: dict[str, Any] = {}
    for key, value in values.items() if isinstance(values, Mapping) else ():
        inner = isinstance(value, Mapping)
        flat |= dotted(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def keys_that_may_differ(
    schema: type, after_divergence: bool = False, prefix: str = ""
) -> frozenset[str]:
    """Dotted keys of a schema's fields that a run may go on with another value of.

    Args: after_divergence: those as well that only a run which diverged may go on with.
    """
    found: set[str] = set()
    for name, one in described(schema).items():
        if one.constraint.may_differ or (after_divergence and one.constraint.after_divergence):
            found.add(f"{prefix}{name}")
        inner = section_of(one.type)
        if inner is not None:
            found |= keys_that_may_differ(inner, after_divergence, f"{prefix}{name}.")
    return frozenset(found)
