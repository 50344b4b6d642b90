"""Columns' names to regions: names decide order.

A column is a region's index (`#2001`), a region's name, or a number by position (`0 .. R-1`,
`Mean_1`). Names are compared without case, punctuation and the network prefix of Schaefer's tables,
where that leaves them different from each other. Names that no region has are refused, since the
file may be of another atlas; `source.order: position` says that it stands in the atlas's order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from lcm_scale.atlas import Atlas
from lcm_scale.errors import InputError, nearest

LONGEST_SHOWN = 64
DIGITS = 18  # of a region's index, which is 64 bits wide at most
# What programs put in front of a number where they know no names.
COUNTED = re.compile(
    r"(?:roi|region|mean|nzmean|v|x|r|reg|c|col|column|node|parcel|label|var|ts|feature)?"
    r"[\s_.-]*(\d{1,6})(?:\s*\[[^\]]*\])?",
    re.IGNORECASE,
)
PREFIX = re.compile(r"^(?:7|17)networks[_ ]", re.IGNORECASE)


def indices_of(columns: Sequence[str], atlas: Atlas, source: str) -> tuple[int, ...] | None:
    """Atlas indices of a file's columns; None where they have no names, or stand by position.

    Raises: InputError where names and atlas contradict each other.
    """
    if not columns:
        return None
    if tuple(columns) == atlas.names:
        return atlas.indices
    if all(name.isascii() and name.isdigit() for name in columns):
        return _numbered([int(name) for name in _short(columns, source)], atlas, source)
    exact = dict(zip(atlas.names, atlas.indices, strict=True))
    plain = _by_plain_name(atlas)
    found = [exact.get(name, plain.get(_plain(name))) for name in columns]
    if all(index is None for index in found):
        counted = [COUNTED.fullmatch(name) for name in columns]
        as_many = len(columns) == atlas.n_regions
        if all(counted) and (as_many or (len(columns) < atlas.n_regions and is_numbered(atlas))):
            return _numbered([int(m[1]) for m in counted if m], atlas, source)
        if is_numbered(atlas):
            raise InputError(
                f"{source}: names its columns ({columns[0][:LONGEST_SHOWN]} ...), and the set's "
                "first file does not, so whether they stand in one order cannot be told; "
                "source.order=position says that all files stand in the atlas's order"
            )
        raise InputError(
            f"{source}: its columns are named ({columns[0][:LONGEST_SHOWN]} ...), and none is a "
            f"region of atlas {atlas.name}; name the atlas of the "
            "files (recipe key 'atlas'), or say that they stand in its order "
            "(source.order=position)"
        )
    strange = next((name for name, i in zip(columns, found, strict=True) if i is None), None)
    if strange is not None:
        raise InputError(
            f"{source}: column '{strange[:LONGEST_SHOWN]}' is no region of atlas "
            f"{atlas.name}{nearest(strange, exact)}; source.drop_columns leaves it out"
        )
    twice = [name for name, n in Counter(columns).items() if n > 1]
    if twice or len(exact) != atlas.n_regions:
        raise InputError(
            f"{source}: columns stand in another order than atlas {atlas.name}, and some names "
            "occur twice, so they cannot be matched; name the columns by atlas index"
        )
    return tuple(index for index in found if index is not None)


def are_names(columns: Sequence[str]) -> bool:
    """Whether columns have names of their own, not numbers by position."""
    return bool(columns) and not all(COUNTED.fullmatch(name) for name in columns)


def is_counted(columns: Sequence[str]) -> bool:
    """Whether columns have no names, or numbers from 0 or 1 on as pandas writes them."""
    return any(tuple(columns) == tuple(map(str, range(s, s + len(columns)))) for s in (0, 1))


def is_numbered(atlas: Atlas) -> bool:
    """Whether only the number of its regions is known (`name:R`)."""
    return atlas.names == tuple(f"region {index}" for index in atlas.indices)


def _numbered(numbers: Sequence[int], atlas: Atlas, source: str) -> tuple[int, ...] | None:
    """Indices where all of them are the atlas's, else positions counted from 0 or 1; None where
    their number is not the atlas's, which is an error of its own.

    Raises: InputError where they are neither.
    """
    own, R = set(atlas.indices), atlas.n_regions
    if len(numbers) < R and any(
        list(numbers) == list(range(start, start + len(numbers))) for start in (0, 1)
    ):
        return None  # counted by whoever wrote them: which region is missing they do not say
    if set(numbers) <= own:
        return tuple(numbers)
    # No region is called 0, so a 0 is the first position, and regions may be missing behind it.
    from_0 = 0 in numbers and 0 not in own and max(numbers) < R
    from_1 = sorted(numbers) == list(range(1, R + 1)) and not own & set(numbers)
    if from_0 or from_1:
        return tuple(atlas.indices[number - from_1] for number in numbers)
    if len(numbers) != R:
        return None
    strange = next(number for number in numbers if number not in own)
    raise InputError(
        f"{source}: region index {strange} of its header is not in atlas {atlas.name}, and the "
        f"columns are not numbered 0..{R - 1} or 1..{R} either; if they stand in the "
        "atlas's order, set source.order=position"
    )


def _short(columns: Sequence[str], source: str) -> Sequence[str]:
    if max(map(len, columns)) > DIGITS:
        raise InputError(f"{source}: a column's name has more digits than a region's index")
    return columns


def _by_plain_name(atlas: Atlas) -> dict[str, int]:
    """Plain name -> index, of names that are different from each other so written."""
    counts = Counter(map(_plain, atlas.names))
    pairs = zip(atlas.names, atlas.indices, strict=True)
    return {_plain(name): index for name, index in pairs if counts[_plain(name)] == 1}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", PREFIX.sub("", name.strip())).lower()
