"""Maps as rows: edges, regions, network pairs, and how stable they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lcm_scale.atlas import Atlas
from lcm_scale.explain.found import Found, TokenMap
from lcm_scale.explain.levels import EDGES, PAIRS, REGIONS
from lcm_scale.explain.stability import Agreement

Row = dict[str, Any]


def edge_rows(found: Found, tokens: Sequence[TokenMap]) -> Iterator[Row]:
    """An edge a row, token by token."""
    atlas = found.levels.atlas
    one, two = np.triu_indices(atlas.n_regions, 1)
    for token in tokens:
        for number, (a, b) in enumerate(zip(one, two, strict=True)):
            yield {
                **_of(token),
                **_region(atlas, int(a), "_a"),
                **_region(atlas, int(b), "_b"),
                **_tested(token, EDGES, number),
                "decoder_share": _share(token, EDGES, number),
            }


def region_rows(found: Found, tokens: Sequence[TokenMap]) -> Iterator[Row]:
    """A region a row, token by token."""
    atlas = found.levels.atlas
    for token in tokens:
        for number in range(atlas.n_regions):
            yield {
                **_of(token),
                **_region(atlas, number, ""),
                **_tested(token, REGIONS, number),
                "attention": f"{token.decoder.mean.attention[number]:.6g}",
                "decoder_share": _share(token, REGIONS, number),
            }


def pair_rows(found: Found, tokens: Sequence[TokenMap]) -> Iterator[Row]:
    """A pair of networks a row, token by token; none where the atlas knows no networks."""
    for token in tokens:
        for number, (a, b) in enumerate(found.levels.pairs):
            yield {
                **_of(token),
                "network_a": a,
                "network_b": b,
                **_tested(token, PAIRS, number),
                "decoder_share": _share(token, PAIRS, number),
            }


def stability_rows(found: Found) -> Iterator[Row]:
    """How well maps agree, a row a token, map and comparison."""
    for token in found.tokens:
        for agreed in token.memory.agreements if token.memory else ():
            yield {**_of(token), "map": "people memory", **_agreed(agreed)}
        for name, own in (
            ("attention", token.decoder.attention_agreement),
            ("integrated gradients", token.decoder.shares_agreement),
        ):
            if own is not None:
                yield {**_of(token), "map": name, **_agreed(own)}


def _of(token: TokenMap) -> Row:
    return {"target": token.target, "token": token.token}


def _region(atlas: Atlas, number: int, which: str) -> Row:
    network = atlas.networks[number] if atlas.networks else ""
    return {
        f"index{which}": atlas.indices[number],
        f"name{which}": atlas.names[number],
        f"network{which}": network,
    }


def _tested(token: TokenMap, level: str, number: int) -> Row:
    """pattern: change of r where the score is one higher; change: one standard deviation higher,
    less what label-permuted models have."""
    if token.memory is None:
        return dict.fromkeys(("pattern", "change", "z", "p", "differs"), "")
    own = token.memory.levels[level]
    value, z, p = float(own.value[number]), float(own.z[number]), float(own.p[number])
    untested = not np.isfinite(p)
    return {
        "pattern": f"{value:.6g}",
        "change": f"{float(own.beyond[number]) * token.memory.spread:.6g}",
        "z": "" if untested else f"{z:.4g}",
        "p": "" if untested else f"{p:.4g}",
        "differs": "" if untested else ("yes" if own.differs[number] else "no"),
    }


def _share(token: TokenMap, level: str, number: int) -> str:
    """Of the decoder's variation: what the edges' integrated gradients carry, on average."""
    own = token.decoder.shares.get(level)
    return "" if own is None else f"{own[number]:.6g}"


def _agreed(agreed: Agreement) -> Row:
    tested = np.isfinite(agreed.p)
    return {
        "between": agreed.of,
        "pairs": agreed.pairs,
        "r": f"{agreed.mean:.4f}",
        "low": f"{agreed.low:.4f}",
        "high": f"{agreed.high:.4f}",
        "permuted_r": f"{agreed.noise:.4f}" if tested else "",
        "permuted_95": f"{agreed.noise_high:.4f}" if tested else "",
        "p": f"{agreed.p:.4g}" if tested else "",
    }
