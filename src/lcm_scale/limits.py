"""How large a file from elsewhere may be, and text files read within that.

A file of two megabytes can claim, or unpack to, many gigabytes. What it claims is compared with
these numbers before memory is taken. They are far above what scans need, and small enough that a
file at the bound still fits into an ordinary machine:

- The finest atlases of regions have about 1,000. A model has edges for every pair, so eight times
  as many is out of reach of any training.
- The longest series that people publish, four joined HCP runs, has 4,800 volumes: 4.8 million
  numbers at 1,000 regions. MOST_NUMBERS is 14 times that, 512 MiB as float64.
- As text, those 4.8 million numbers are 120 MB in the longest form that people write (25 characters
  each, `np.savetxt`). A table of a million scans has about as much.
"""

from __future__ import annotations

import codecs
import math
from pathlib import Path

from lcm_scale.errors import InputError

MOST_REGIONS = 8192
MOST_NUMBERS = MOST_REGIONS**2  # of one array: also the largest ready matrix
LARGEST_TEXT = 256 * 2**20  # bytes
LONGEST_LINE = 2**20  # characters: 8,192 names of 128 each
MOST_LINES = 2**22  # of a text file: four million scans, or a month at a TR of 0.7 s
# The mark in front of a text says its encoding. UTF-32's begins as UTF-16's does, so it is first.
ENCODING_OF = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path, *encodings: str) -> str:
    """The text of a file, its line ends as ``\\n``.

    Args: encodings: tried one after the other, where no mark in front of the text says which; UTF-8
        where none is named.
    Raises: InputError where it cannot be read, is no text, or is larger than the bounds above.
    """
    raw = _bytes_of(path)
    text = _decoded(raw, encodings or ("utf-8-sig",), path)
    if "\0" in text:
        raise InputError(
            f"{path}: cannot be read as text: it holds NUL characters; if it is UTF-16, save it as "
            "UTF-8"
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    n_lines = text.count("\n")
    if n_lines > MOST_LINES:
        raise InputError(f"{path}: {n_lines:,} lines; at most {MOST_LINES:,} are read")
    longest = max(map(len, text.split("\n")))
    if longest > LONGEST_LINE:
        raise InputError(
            f"{path}: a line of {longest:,} characters; at most {LONGEST_LINE:,} are read"
        )
    return text


def first_line(path: Path) -> str:
    """The first line, or as much of it as is ever read; what is no UTF-8 is replaced.

    Raises: InputError where it cannot be read.
    """
    _refuse_no_file(path)
    try:
        with open(path, "rb") as handle:
            raw = handle.read(LONGEST_LINE)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    text = raw.decode(_marked(raw) or "utf-8", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").partition("\n")[0]


def is_file(path: Path) -> bool:
    """Whether it is a file: no folder, pipe or device; nor a name that is longer than the system
    takes, or behind a closed folder, at which pathlib raises."""
    try:
        return path.is_file()
    except OSError:
        return False


def refuse_too_many(shape: tuple[int, ...], what: str) -> None:
    """Raises: InputError where an array of that shape has more than MOST_NUMBERS numbers."""
    if math.prod(shape) > MOST_NUMBERS:
        raise InputError(
            f"{what}: {' x '.join(map(str, shape))} values; at most {MOST_NUMBERS:,} are read"
        )


def _bytes_of(path: Path) -> bytes:
    _refuse_no_file(path)
    try:
        with open(path, "rb") as handle:
            raw = handle.read(LARGEST_TEXT + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(raw) > LARGEST_TEXT:
        size = path.stat().st_size
        raise InputError(f"{path}: {size:,} bytes of text; at most {LARGEST_TEXT:,} are read")
    return raw


def _refuse_no_file(path: Path) -> None:
    """A pipe or a device would be waited for, or read without end."""
    if not is_file(path):
        raise InputError(f"{path}: no such file")


def _marked(raw: bytes) -> str | None:
    """The encoding that a mark in front of the text says, None where there is none."""
    return next((name for mark, name in ENCODING_OF.items() if raw.startswith(mark)), None)


def _decoded(raw: bytes, encodings: tuple[str, ...], path: Path) -> str:
    failure: UnicodeDecodeError | None = None
    marked = _marked(raw)
    for encoding in (marked,) if marked else encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as error:
            failure = failure or error
    raise InputError(f"{path}: cannot be read as text ({failure})") from failure
