"""Atlases as tables: the built in ones by name, a lab's own as TSV or CSV."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

from lcm_scale.atlas.regions import MOST_REGIONS, Atlas, numbered
from lcm_scale.errors import InputError

BUILT_IN = ("aal116",)


def load_atlas(name_or_path: str) -> Atlas:
    """A built-in atlas by name, or a TSV/CSV with columns ``index``, ``name`` and optionally
    ``network``, ``x``, ``y``, ``z``.

    ``<name>:<R>`` gives a numbered atlas for files that come without names.
    Raises: InputError.
    """
    if name_or_path in BUILT_IN:
        path = resources.files("lcm_scale.atlas") / "built_in" / f"{name_or_path}.tsv"
        return _parse(name_or_path, path.read_text(encoding="utf-8"), name_or_path)
    stem, colon, count = name_or_path.rpartition(":")
    if colon and count.isdecimal() and not Path(name_or_path).exists():
        if not 2 <= int(count[:9]) <= MOST_REGIONS:
            raise InputError(f"atlas '{name_or_path}': from 2 to {MOST_REGIONS} regions")
        return numbered(stem, int(count))
    file = Path(name_or_path)
    if not file.is_file():
        raise InputError(
            f"atlas '{name_or_path}': neither built in ({', '.join(BUILT_IN)}), a file, nor "
            "'name:regions'"
        )
    try:
        return _parse(file.stem, file.read_text(encoding="utf-8-sig"), str(file))
    except UnicodeDecodeError as error:
        raise InputError(
            f"atlas {file}: no text; expected a TSV or CSV with the columns index and name"
        ) from error


def _parse(name: str, text: str, where: str) -> Atlas:
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    if not rows or not {"index", "name"} <= set(rows[0]):
        raise InputError(f"atlas {where}: needs a header with the columns index and name")
    try:
        return Atlas(
            name=name,
            indices=tuple(int(row["index"]) for row in rows),
            names=tuple(row["name"] for row in rows),
            networks=tuple(row["network"] for row in rows) if "network" in rows[0] else (),
            coordinates=tuple((float(r["x"]), float(r["y"]), float(r["z"])) for r in rows)
            if "x" in rows[0]
            else (),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"atlas {where}: {error}; index is a whole number, x, y, z are mm"
        ) from error
