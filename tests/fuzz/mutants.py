"""Mutants of a file: the same ones for the same bytes and seed, on every machine.

Bytes are changed the way damage and malice change them: flipped, cut, repeated, overwritten with the
numbers at which lengths go wrong. Of texts (JSON, tables) whole values are exchanged as well.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

# Where counts, sizes and signs turn over.
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2.5,
    1e308,
    10**12,
    float("nan"),
    "",
    "x",
    "../x",
    "/x",
    "a" * 300,
    "\x1b[31m",
    [],
    [[]],
    {},
    [None],
    {"x": 1},
    [1, "2"],
)


# What a cell of a table should not be: digits that int() refuses or that are no decimal ones, numbers
# that overflow, marks that end cells and lines elsewhere.
CELLS = (
    "",
    " ",
    "x",
    "-1",
    "1.5",
    "1e999",
    "nan",
    "-9999",
    "9" * 30,
    "9" * 5000,
    "\u00b2",
    "\u0663",
    "1_0",
    "0x10",
    "=1+1",
    "../x",
    "/x",
    "x/" * 200,
    "a" * 300,
    "a" * 200_000,
    "\x00",
    "\x1b[31m",
    "\x0c",
    "\x85",
    "\u2028",
    "\ud800",
    '"',
    '"a\nb"',
    ",",
    "\t",
    "\r",
    "#",
)


def mutants(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` mutants of these bytes."""
    for number in range(count):
        yield mutant(data, random.Random(f"{seed}/{number}"))


def mutant(data: bytes, rng: random.Random) -> bytes:
    """One mutant: one to four changes, each of a kind drawn by chance."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        _change(changed, rng)
    return bytes(changed)


def json_mutants(value: Any, count: int, seed: int = 0) -> Iterator[Any]:
    """`count` copies of a JSON value, in each of which one to three parts were exchanged, taken out or
    doubled."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        copy = json.loads(json.dumps(value))
        for _ in range(rng.randint(1, 3)):
            copy = _exchange(copy, rng)
        yield copy


def table_mutants(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` mutants of a table as text, in each of which one to three cells, columns or rows were
    exchanged, taken out or doubled."""
    for number in range(count):
        yield table_mutant(data, random.Random(f"{seed}/{number}"))


def table_mutant(data: bytes, rng: random.Random) -> bytes:
    """One mutant of a table; its first line shows what stands between two cells."""
    lines = data.decode("utf-8").splitlines()
    mark = next((mark for mark in ("\t", ",") if mark in lines[0]), " ")
    rows = [line.split(mark) for line in lines]
    for _ in range(rng.randint(1, 3)):
        _change_table(rows, rng)
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(mark.join(row) for row in rows)
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")), "surrogatepass")


def _change_table(rows: list[list[str]], rng: random.Random) -> None:
    if not rows:
        return
    at = rng.randrange(len(rows)) if rng.random() < 0.8 else 0
    column = rng.randrange(len(rows[at]) + 1)
    kind = rng.randrange(8)
    if kind < 4 and column < len(rows[at]):
        rows[at][column] = rng.choice(CELLS)
    elif kind == 4:
        for row in rows:
            del row[column : column + 1]
    elif kind == 5:
        rows.insert(at, list(rows[at]))
    elif kind == 6:
        del rows[at]
    else:
        rows[at].insert(column, rng.choice(CELLS))


def _change(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1) if data else 0
    kind = rng.randrange(6)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + rng.randint(1, 8)] = rng.randbytes(rng.randint(0, 8))
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        data[at:at] = data[at : at + rng.randint(1, 64)]
    elif kind == 4:
        size = rng.choice((1, 2, 4, 8))
        order = rng.choice(("little", "big"))
        edge = rng.choice([edge for edge in EDGES if edge < 256**size])
        data[at : at + size] = edge.to_bytes(size, order)
    else:
        del data[at : at + rng.randint(1, 64)]


def _exchange(value: Any, rng: random.Random) -> Any:
    """Go down by chance, then exchange what is there."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        kind = rng.random()
        if kind < 0.1:
            del value[key]
        elif kind < 0.15:
            value[rng.choice(("x", "", key + " "))] = value.pop(key)
        else:
            value[key] = _exchange(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.1:
            del value[at]
        elif kind < 0.2:
            value.insert(at, json.loads(json.dumps(value[at])))
        else:
            value[at] = _exchange(value[at], rng)
        return value
    return rng.choice(VALUES)
