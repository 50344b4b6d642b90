"""Atlases as tables: the built in ones by name, a lab's own as TSV or CSV.

A built-in table says in leading lines, `# ...`, where its facts come from; docs/data.md lists them.
"""

from __future__ import annotations

import csv
import re
from importlib import resources
from pathlib import Path

from lcm_scale.atlas.regions import Atlas, numbered
from lcm_scale.errors import InputError, nearest

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


def load_atlas(name_or_path: str) -> Atlas:
    """A built-in atlas by name, or a TSV/CSV with columns ``index``, ``name`` and optionally
    ``network``, ``x``, ``y``, ``z`` (mm, MNI). XCP-D's ``label`` and ``network_label`` will do.

    ``<name>:<R>`` gives a numbered atlas for files that come without names.
    Raises: InputError.
    """
    if name_or_path in BUILT_IN:
        path = resources.files("lcm_scale.atlas") / "built_in" / f"{name_or_path}.tsv"
        return _parse(name_or_path, path.read_text(encoding="utf-8"), name_or_path)
    stem, colon, count = name_or_path.rpartition(":")
    if colon and count.isdigit() and not Path(name_or_path).exists():
        return numbered(stem, int(count))
    file = Path(name_or_path)
    if not file.is_file():
        listed = ", ".join(name for name in BUILT_IN if name not in SCHAEFER)
        raise InputError(
            f"atlas '{name_or_path}': neither built in ({listed}, {SCHAEFER[0]} to "
            f"{SCHAEFER[-1]}), a file, nor 'name:regions' (cc200:200){_meant(name_or_path)}"
        )
    try:
        return _parse(file.stem, file.read_text(encoding="utf-8-sig"), str(file))
    except UnicodeDecodeError as error:
        raise InputError(
            f"atlas {file}: no text; expected a TSV or CSV with the columns index and name"
        ) from error


def _meant(name: str) -> str:
    """The nearest built-in atlas as a question. One with the same numbers comes first: by letters
    alone `Schaefer2018_200Parcels_7Networks` is nearer to 800 regions than to 200."""
    numbers = set(re.findall(r"\d+", name))
    same = [known for known in BUILT_IN if set(re.findall(r"\d+", known)) <= numbers]
    return nearest(name.lower(), same) or nearest(name.lower(), BUILT_IN)


def _parse(name: str, text: str, where: str) -> Atlas:
    lines = text.splitlines()
    while lines and lines[0].startswith("# "):
        lines.pop(0)
    reader = csv.DictReader(lines, delimiter="\t" if lines and "\t" in lines[0] else ",")
    header = [column.strip() for column in reader.fieldnames or ()]
    for word, ours in OTHER_WORDS.items():
        if word in header and ours not in header:
            header[header.index(word)] = ours
    reader.fieldnames = header
    rows = list(reader)
    if not rows or not {"index", "name"} <= set(header):
        raise InputError(
            f"atlas {where}: needs a header with the columns index and name (or label)"
        )
    try:
        return Atlas(
            name=name,
            indices=tuple(int(row["index"]) for row in rows),
            names=tuple(row["name"] for row in rows),
            # n/a is how BIDS writes that a region belongs to no network.
            networks=tuple("" if row["network"] == "n/a" else row["network"] for row in rows)
            if "network" in header
            else (),
            coordinates=tuple((float(r["x"]), float(r["y"]), float(r["z"])) for r in rows)
            if "x" in header
            else (),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"atlas {where}: {error}; index is a whole number, x, y, z are mm"
        ) from error
