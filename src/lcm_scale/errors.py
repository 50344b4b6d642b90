"""The one exception for mistakes that the user can mend: the CLI prints its single line and exits
2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """The input is wrong. The message says what was read, where, what was expected and what to do,
    in one line."""


class Stopped(Exception):
    """A signal ended a run, and a good checkpoint exists: the CLI exits 75, on which a batch script
    requeues."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the closest of `choices`, or '' where nothing is close.

    Choices may come from a file. Comparing takes the square of their length, so a long one, or a
    long list, is nothing that a person meant to type.
    """
    likely = [choice for choice in choices if len(choice) <= 100][:1000]
    close = difflib.get_close_matches(word[:100], likely, n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""
