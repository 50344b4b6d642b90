"""Atlases as tables: the built in ones by name, a lab's own as TSV or CSV.

A built-in table says in leading lines, `# ...`, where its facts come from; docs/data.md lists them.
"""

from __future__ import annotations

import csv
import io
import math
import re
from importlib import resources
from pathlib import Path

from lcm_scale.atlas.regions import Atlas, numbered
from lcm_scale.delimited import marked
from lcm_scale.errors import InputError, nearest
from lcm_scale.limits import MOST_REGIONS, is_file, read_text

SCHAEFER = tuple(f"schaefer{n}-{k}" for n in range(100, 1001, 100) for k in (7, 17))
BUILT_IN = (
    "aal94",
    "aal116",
    "dosenbach160",
    "gordon333",
    "harvardoxford48",
    "harvardoxford96",
    "mist122",
    "power264",
    *SCHAEFER,
)
# XCP-D's words for our columns.
OTHER_WORDS = {"label": "name", "network_label": "network"}


def as_table(atlas: Atlas) -> str:
    """Order and names as `load_atlas` reads them, tab-separated."""
    rows = [("index", "name"), *zip(map(str, atlas.indices), atlas.names, strict=True)]
    return "\n".join("\t".join(row) for row in rows) + "\n"


def load_atlas(name_or_path: str) -> Atlas:
    """An atlas by name or from a table.

    Parameters
    ----------
    name_or_path : str
        A built-in name; a TSV or CSV with the columns ``index``, ``name`` and optionally
        ``network``, ``x``, ``y``, ``z`` (mm, MNI), where XCP-D's ``label`` and ``network_label``
        will do; or ``NAME:R``, regions numbered from 1 on, for files that come without names.

    Returns
    -------
    Atlas

    Raises
    ------
    InputError
        Where it is none of the three, or the table is none of an atlas.
    """
    if name_or_path in BUILT_IN:
        path = resources.files("lcm_scale.atlas") / "built_in" / f"{name_or_path}.tsv"
        return _parse(name_or_path, path.read_text(encoding="utf-8"), name_or_path)
    stem, colon, count = name_or_path.rpartition(":")
    file = Path(name_or_path)
    if is_file(file):
        return _parse(file.stem, read_text(file), str(file))
    if not (colon and count.isascii() and count.isdigit()):
        listed = ", ".join(name for name in BUILT_IN if name not in SCHAEFER)
        raise InputError(
            f"atlas '{name_or_path[:100]}': neither built in ({listed}, {SCHAEFER[0]} to "
            f"{SCHAEFER[-1]}), a file, nor 'name:regions' (cc200:200){_meant(name_or_path[:100])}"
        )
    if len(count) > 9 or not 1 <= int(count) <= MOST_REGIONS:
        raise InputError(_too_many(stem[:100], count[:20]))
    return numbered(stem, int(count))


def _meant(name: str) -> str:
    """The nearest built-in atlas as a question. One with the same numbers comes first: by letters
    alone `Schaefer2018_200Parcels_7Networks` is nearer to 800 regions than to 200."""
    numbers = set(re.findall(r"\d+", name))
    same = [known for known in BUILT_IN if set(re.findall(r"\d+", known)) <= numbers]
    return nearest(name.lower(), same) or nearest(name.lower(), BUILT_IN)


def _parse(name: str, text: str, where: str) -> Atlas:
    while text.startswith("# "):
        text = text.partition("\n")[2]
    text, mark = marked(text)
    try:
        reader = csv.DictReader(io.StringIO(text.lstrip()), delimiter=mark or ",", restval="")
        header = [column.strip() for column in reader.fieldnames or ()]
        for word, ours in OTHER_WORDS.items():
            if word in header and ours not in header:
                header[header.index(word)] = ours
        reader.fieldnames = header
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"atlas {where}: {error}") from error
    if not rows or not {"index", "name"} <= set(header):
        raise InputError(
            f"atlas {where}: needs a header with the columns index and name (or label)"
        )
    if len(rows) > MOST_REGIONS:
        raise InputError(_too_many(where, f"{len(rows):,}"))
    try:
        return Atlas(
            name=name,
            indices=tuple(_index(row["index"]) for row in rows),
            names=tuple(row["name"] for row in rows),
            # n/a is how BIDS writes that a region belongs to no network.
            networks=tuple("" if row["network"] == "n/a" else row["network"] for row in rows)
            if "network" in header
            else (),
            coordinates=tuple((_mm(r["x"]), _mm(r["y"]), _mm(r["z"])) for r in rows)
            if "x" in header
            else (),
        )
    except (ValueError, KeyError) as error:
        raise InputError(
            f"atlas {where}: {str(error)[:100]}; index is a whole number, x, y, z are mm"
        ) from error


def _index(cell: str) -> int:
    """Raises: ValueError where it is no whole number that a label image can hold."""
    index = int(cell)
    if abs(index) >= 2**63:
        raise ValueError(f"{cell[:40]} is larger than a label image can hold")
    return index


def _mm(cell: str) -> float:
    """Raises: ValueError where it is no finite number."""
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(f"a coordinate is '{cell}'")
    return value


def _too_many(where: str, count: str) -> str:
    return f"atlas {where}: {count} regions; expected 1 to {MOST_REGIONS:,}"
