"""The one exception for mistakes that the user can mend: the CLI prints its single line and exits
2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """The input is wrong. The message says what was read, where, what was expected and what to do,
    in one line."""


class Diverged(InputError):
    """Training came to a number that is none: rates are the user's to choose.

    Attributes: step: the optimiser step at which it was seen.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step

    def __reduce__(self) -> tuple[type[Diverged], tuple[str, int]]:
        """As another process sends it."""
        return Diverged, (str(self), self.step)


class Elsewhere(InputError):
    """Another rank met the user's mistake and tells it: this one ends alike, without a line."""

    def __init__(self) -> None:
        super().__init__("another rank says what is wrong")


class Stopped(Exception):
    """A signal ended a run, and a good checkpoint exists: the CLI exits 75, on which a batch script
    requeues."""


def not_installed(what: str, package: str, extra: str) -> InputError:
    """What needs a package that the user may install with one of our extras."""
    return InputError(
        f"{what} needs {package}, which is not installed: pip install 'lcm-scale[{extra}]'"
    )


def nearest(word: str, choices: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the closest of `choices`, or '' where nothing is close.

    Choices may come from a file. Comparing takes the square of their length, so a long one, or a
    long list, is nothing that a person meant to type.
    """
    likely = [choice for choice in choices if len(choice) <= 100][:1000]
    close = [choice for choice in likely if choice.casefold() == word.casefold()]
    close = close or difflib.get_close_matches(word[:100], likely, n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""
