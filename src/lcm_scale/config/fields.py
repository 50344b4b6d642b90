"""How a recipe's field carries its constraint: beside its default, where a reader looks for it.

    devices: int = number(1, at_least=1)
    schedule: str = choice("constant", ("constant", "cosine", "wsd"))

The constraint is the field's metadata; check.py walks any recipe by it. A field whose every value
is meaningful says so with `free`, and why, so that a field without a constraint is never an
oversight.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lcm_scale.errors import nearest

KEY = "constraint"
# Part of a path, a file's name, a key of a tar's records: what is safe in all of them.
NAME = r"[\w.@+=-][\w.@+= -]*"
RUN_NAME = rf"(?!.*(^|/)\.\.?(/|$)){NAME}(/{NAME})*"
SET_NAME = r"[\w-]+"
GROUP_NAME = r"[\w@+-][\w@+.-]*( [\w@+.-]+)*"


@dataclass(frozen=True)
class Constraint:
    """What a field's value must be, beside its type.

    Attributes:
        choices: of a text, or of each text of a list; empty: any.
        low, high: bounds of a number, or of each number of a list or mapping.
        low_open, high_open: whether the bound itself is outside.
        pattern: a regular expression for a whole text.   expected: the pattern in words.
        free: why every value of the type has a meaning.
        may_differ: a run goes on although this changed since it began.
    """

    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    pattern: str = ""
    expected: str = ""
    free: str = ""
    may_differ: bool = False

    def refuses(self, value: Any) -> str:
        """What is wrong with one value, in words that follow `key=value`; '' where nothing is."""
        if isinstance(value, bool):
            return ""
        if isinstance(value, int | float):
            return (
                "" if self._holds(value) else f": expected {self.in_words(isinstance(value, int))}"
            )
        if isinstance(value, str) and self.choices and value not in self.choices:
            return f"{nearest(value, self.choices)} (one of {', '.join(self.choices)})"
        # An empty text is one that was not given; who needs it says so.
        if (
            value
            and isinstance(value, str)
            and self.pattern
            and not re.fullmatch(self.pattern, value)
        ):
            return f": expected {self.expected}"
        return ""

    def _holds(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def in_words(self, whole: bool) -> str:
        """The bounds, for an error."""
        what = "a whole number" if whole else "a number"
        parts = []
        if math.isfinite(self.low):
            parts.append(f"{'above' if self.low_open else 'at least'} {self.low:g}")
        if math.isfinite(self.high):
            parts.append(f"{'below' if self.high_open else 'at most'} {self.high:g}")
        return " ".join([what, " and ".join(parts)]).strip() if parts else "a finite number"


def number(
    default: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    may_differ: bool = False,
) -> Any:
    """A whole or real number within bounds; None stays None where the type allows it."""
    low = at_least if at_least is not None else above
    high = at_most if at_most is not None else below
    constraint = Constraint(
        low=-math.inf if low is None else low,
        high=math.inf if high is None else high,
        low_open=above is not None,
        high_open=below is not None,
        may_differ=may_differ,
    )
    return dataclasses.field(default=default, metadata={KEY: constraint})


def share(default: float | None) -> Any:
    """0 or more and below 1."""
    return number(default, at_least=0, below=1)


def choice(default: str, choices: Sequence[str], *, may_differ: bool = False) -> Any:
    """One of some texts."""
    constraint = Constraint(choices=tuple(choices), may_differ=may_differ)
    return dataclasses.field(default=default, metadata={KEY: constraint})


def some_of(default: Sequence[str], choices: Sequence[str]) -> Any:
    """A list of some of these texts."""
    return dataclasses.field(
        default_factory=lambda: list(default), metadata={KEY: Constraint(choices=tuple(choices))}
    )


def named(default: str, pattern: str, expected: str) -> Any:
    """A text of some form."""
    constraint = Constraint(pattern=pattern, expected=expected)
    return dataclasses.field(default=default, metadata={KEY: constraint})


def numbers(default: Sequence[float] = (), *, above: float = -math.inf) -> Any:
    """A list of numbers."""
    return dataclasses.field(
        default_factory=lambda: list(default),
        metadata={KEY: Constraint(low=above, low_open=True)},
    )


def weights() -> Any:
    """A mapping from names to numbers of at least 0."""
    return dataclasses.field(default_factory=dict, metadata={KEY: Constraint(low=0)})


def free(default: Any, why: str, *, may_differ: bool = False) -> Any:
    """Any value of the field's type.  Args: why: what makes every value meaningful, or who
    checks."""
    constraint = Constraint(free=why, may_differ=may_differ)
    if isinstance(default, list | dict):
        return dataclasses.field(
            default_factory=lambda: type(default)(default), metadata={KEY: constraint}
        )
    return dataclasses.field(default=default, metadata={KEY: constraint})
