"""Text for a terminal: what stands in strangers' files must not move its cursor, rewrite what it
shows, or pass for another line.

Every file of the package that prints imports `print` from here.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import re
from collections.abc import Iterator
from typing import IO

# Control characters, marks that turn the direction of writing, ends of lines and paragraphs of
# Unicode, and halves of surrogate pairs, which no stream takes.
_NOT_SHOWN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """The text with `\\x1b` in place of an escape character, and so on; tabs and newlines stay."""
    return _NOT_SHOWN.sub(_spelt, text)


def one_line(text: str) -> str:
    """The same, and a space in place of newlines and tabs."""
    return printable(re.sub(r"[\t\n\r]+", " ", text))


def print(
    *values: object,
    sep: str = " ",
    end: str = "\n",
    file: IO[str] | None = None,
    flush: bool = False,
) -> None:
    """As Python's own, of `printable` text."""
    builtins.print(printable(sep.join(map(str, values))), end=end, file=file, flush=flush)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing that Python prints within is shown, warnings and progress included."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def _spelt(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
