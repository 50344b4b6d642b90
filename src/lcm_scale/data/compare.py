"""Who stands in one set twice, or in two sets: by id, and by the matrices (`fingerprints.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.config import DataConfig
from lcm_scale.data.fingerprints import Pair, Scans, alike_across, alike_within
from lcm_scale.data.sets import ShardSets, open_sets
from lcm_scale.data.stream import read_block

NAMED = 20  # pairs that are listed


def compare(first: Path, second: Path | None) -> dict[str, str]:
    """What is said of one set, or of two that may be of other atlases' orders, kinds or salts.

    Returns: question -> answer.  Raises: InputError for a folder that holds no set, a damaged tar,
        or two atlases.
    """
    a = _opened(first)
    said = {f"in {first}": _listed(alike_within(_scans(a)), a, a)}
    if second is None:
        return said
    b = _opened(second, a.atlas)
    said[f"in {second}"] = _listed(alike_within(_scans(b)), b, b)
    common = len(set(a.subjects) & set(b.subjects))
    one_salt = a.manifests[0].salt_id == b.manifests[0].salt_id
    return {
        "people": f"{len(a.subjects)} and {len(b.subjects)}",
        "in both by id": str(common) if one_salt else "not known: hashed with different salts",
        "in both by their matrices, under two ids": _listed(
            alike_across(_scans(a), _scans(b)), a, b
        ),
        **said,
    }


def _opened(folder: Path, atlas: Atlas | None = None) -> ShardSets:
    return open_sets(DataConfig(sets=[str(folder)], reorder=True), atlas)


def _scans(sets: ShardSets) -> Scans:
    def blocks() -> Iterator[np.ndarray]:
        for number in range(len(sets.blocks)):
            yield read_block(sets, number)

    return Scans(blocks, [sets.subjects[person] for person in sets.subject])


def _listed(pairs: Sequence[Pair] | None, a: ShardSets, b: ShardSets) -> str:
    """`2 pairs: 1f96... (UM_1, scan 195) and bd91... (UM_1, scan 202) (r 0.97); ...`"""
    if pairs is None:
        return "not compared: fewer than 30 regions, or too many scans"
    named = [
        f"{pair.first}{_site(a, pair.first)} and {pair.second}{_site(b, pair.second)} "
        f"(r {pair.r:.2f})"
        for pair in pairs[:NAMED]
    ]
    more = [f"and {len(pairs) - NAMED} more"] if len(pairs) > NAMED else []
    word = "pair" if len(pairs) == 1 else "pairs"
    return f"{len(pairs)} {word}: {'; '.join([*named, *more])}" if pairs else "nobody"


def _site(sets: ShardSets, person: str) -> str:
    scan = int(np.flatnonzero(sets.subject == sets.subjects.index(person))[0])
    site = int(sets.site[scan])
    return f" ({sets.sites[site]}, scan {scan})" if site >= 0 else f" (scan {scan})"
