"""Context: what is known of a scan's surroundings and is neither predicted nor a token, such as its
scanner, a medication or its motion.

In: a table's words, through the recipe's `context`. Out: float32 (N, K) beside the labels in the
scan index, NaN missing, and a `ContextColumn` each in the manifest. A category's code is its
position; sets that are opened together keep the codes of the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lcm_scale import checked
from lcm_scale.config import ContextConfig, ShardRecipe
from lcm_scale.config.fields import choices_of
from lcm_scale.data.recordings import Scan
from lcm_scale.errors import InputError, nearest

# What every reader says of a scan, beside its table's columns.
FACTS = ("site", "session", "run", "tr", "age", "sex", "mean_fd")
KINDS = choices_of(ContextConfig, "kind")


@dataclass(frozen=True)
class ContextColumn:
    """One column.

    Attributes:
        kind: ``number`` or ``category``.   unit: of a number, in words.
        categories: in the order of their codes; empty for a number.
        known: how many scans have a value; of a category, `counts` has each one's.
    """

    name: str
    kind: str
    unit: str
    categories: tuple[str, ...]
    known: int = 0
    counts: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "categories": list(self.categories),
            "known": self.known,
            "counts": list(self.counts),
        }

    @classmethod
    def from_json(cls, value: object, name: str) -> ContextColumn:
        """Raises: InputError where the value is not what `to_json` gives."""
        keys = ("name", "kind", "unit", "categories", "known", "counts")
        own = checked.members(value, name, keys)
        categories = checked.entries(own["categories"], f"{name}.categories", checked.text)
        counts = checked.entries(own["counts"], f"{name}.counts", _count, len(categories))
        return cls(
            checked.text(own["name"], f"{name}.name"),
            checked.choice(own["kind"], f"{name}.kind", KINDS),
            checked.text(own["unit"], f"{name}.unit"),
            categories,
            _count(own["known"], f"{name}.known"),
            counts,
        )

    def check(self, values: np.ndarray) -> None:
        """Args: values: (N,).   Raises: InputError where one is not of this column, or they are not
        as many as it says."""
        known = values[~np.isnan(values)]
        right = np.isfinite(known)
        if self.kind == "category":
            right &= (known >= 0) & (known < len(self.categories)) & (known == np.floor(known))
        if not right.all() or _counted(self, values) != self:
            raise InputError(f"context: the values of {self.name} are not what the manifest says")


def _count(value: object, name: str) -> int:
    return checked.whole(value, name, 0, 2**31 - 1)


def _counted(column: ContextColumn, values: np.ndarray) -> ContextColumn:
    """The column with the counts of its values (N,)."""
    known = values[~np.isnan(values)]
    counts = [int((known == code).sum()) for code in range(len(column.categories))]
    return replace(column, known=len(known), counts=tuple(counts))


def check_context(recipe: ShardRecipe, targets: set[str]) -> None:
    """Raises: InputError where a column has no name or that of another one, or a key means nothing
    for its kind.  Args: targets: names that are taken."""
    taken = set(targets)
    for column in recipe.context:
        if column.name in taken:
            raise InputError(
                f"{recipe.name}: context '{column.name}': a target or another column of context "
                "has that name"
            )
        taken.add(column.name)
        strange = (
            [key for key in ("unit", "missing") if getattr(column, key)]
            if column.kind == "category"
            else ["map"] * bool(column.map)
        )
        if strange:
            raise InputError(
                f"{recipe.name}: context '{column.name}': {strange[0]} means nothing for a "
                f"{column.kind} (kind)"
            )


def context_of(scan: Scan, recipe: ShardRecipe) -> dict[str, str | None]:
    """Name -> what the table, or else the reader, says, mapped; None where it is missing.

    Raises: InputError for a column that is not there, a word that the map lacks, or a number that
        is none.
    """
    where = scan.row or scan.source
    values: dict[str, str | None] = {}
    for wanted in recipe.context:
        column = wanted.column or wanted.name
        value = _cell(scan, column, wanted, where)
        if value is None:
            values[wanted.name] = None
        elif wanted.kind == "category":
            values[wanted.name] = _category(value, column, wanted, where)
        else:
            values[wanted.name] = _number(value, column, wanted, where)
    return values


def _cell(scan: Scan, column: str, wanted: ContextConfig, where: str) -> str | None:
    if column in scan.labels:
        return scan.labels[column]
    if column in FACTS:
        fact = getattr(scan, column)
        return None if fact is None or fact == "" else str(fact)
    if wanted.optional:
        return None
    there = sorted({*scan.labels, *FACTS})
    raise InputError(
        f"{where}: no column '{column}' for context '{wanted.name}'{nearest(column, there)} "
        f"(there: {', '.join(there)})"
    )


def _category(value: str, column: str, wanted: ContextConfig, where: str) -> str | None:
    if not wanted.map:
        return value
    if value not in wanted.map:
        raise InputError(
            f"{where}: {column} is '{value}'{nearest(value, wanted.map)}; the map of the recipe's "
            f"context '{wanted.name}' knows {', '.join(wanted.map)} (to '': missing)"
        )
    return wanted.map[value] or None


def _number(value: str, column: str, wanted: ContextConfig, where: str) -> str | None:
    try:
        number = float(value)
    except ValueError:
        raise InputError(
            f"{where}: {column} is '{value}', expected a number (context '{wanted.name}'; words: "
            "kind: category)"
        ) from None
    return value if math.isfinite(number) and number not in wanted.missing else None


def encoded_context(
    recipe: ShardRecipe, words: Mapping[str, Sequence[str | None]], n_scans: int
) -> tuple[tuple[ContextColumn, ...], np.ndarray]:
    """The columns that somebody has a value in, and float32 (scans, columns), NaN missing.

    Args: words: of each column, a word or number a scan.
    Raises: InputError where nobody has a value and the column is not optional.
    """
    columns, coded = [], []
    for wanted in recipe.context:
        found = [word for word in words[wanted.name] if word is not None]
        if not found and wanted.optional:
            continue
        if not found:
            raise InputError(
                f"{recipe.name}: context '{wanted.name}' has no value in any scan; check its "
                "column, or set optional: true"
            )
        mapped = dict.fromkeys(category for category in wanted.map.values() if category)
        categories = tuple(mapped or sorted(set(found))) if wanted.kind == "category" else ()
        code = {category: float(number) for number, category in enumerate(categories)}
        values = np.array(
            [
                np.nan if word is None else code[word] if categories else float(word)
                for word in words[wanted.name]
            ],
            np.float32,
        )
        column = ContextColumn(wanted.name, wanted.kind, wanted.unit, categories)
        columns.append(_counted(column, values))
        coded.append(values)
    return tuple(columns), np.array(coded, np.float32).reshape(len(coded), n_scans).T


def united(
    sets: Sequence[tuple[str, Sequence[ContextColumn], np.ndarray]],
) -> tuple[tuple[ContextColumn, ...], np.ndarray]:
    """The columns of several sets by name, and float32 (N, K) of all their scans: NaN where a set
    does not have a column.

    Args: sets: name, columns and values (scans, columns) of each. Codes of the first sets stay.
    Raises: InputError where two sets mean different things by one name.
    """
    columns: dict[str, ContextColumn] = {}
    for set_name, own, _ in sets:
        for column in own:
            columns[column.name] = _wider(columns.get(column.name), column, set_name)
    parts = []
    for _, own, values in sets:
        part = np.full((len(values), len(columns)), np.nan, np.float32)
        for place, (name, column) in enumerate(columns.items()):
            for number, old in enumerate(own):
                if old.name == name:
                    part[:, place] = _recoded(values[:, number], old, column)
        parts.append(part)
    together = np.concatenate(parts)
    counted = [_counted(c, together[:, place]) for place, c in enumerate(columns.values())]
    return tuple(counted), together


def _wider(known: ContextColumn | None, new: ContextColumn, set_name: str) -> ContextColumn:
    if known is None:
        return new
    for what in ("kind", "unit"):
        one, other = getattr(known, what), getattr(new, what)
        if one != other:
            raise InputError(
                f"set {set_name}: context '{new.name}' has the {what} '{other}', in the sets "
                f"before it '{one}'; give both alike (context in the shard recipe)"
            )
    return replace(known, categories=tuple(dict.fromkeys((*known.categories, *new.categories))))


def _recoded(values: np.ndarray, old: ContextColumn, new: ContextColumn) -> np.ndarray:
    if not old.categories:
        return values
    table = np.array([new.categories.index(c) for c in old.categories] + [np.nan], np.float32)
    return np.asarray(table[np.where(np.isnan(values), len(table) - 1, values).astype(np.int64)])
