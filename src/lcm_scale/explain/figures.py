"""Figures of an explanation: plain data in, a matplotlib Figure out, in the report's one style.

What does not differ from noise is grey. Each is as wide as a telephone's page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine

from lcm_scale.atlas import square
from lcm_scale.explain import tables, wording
from lcm_scale.explain.found import Found, TokenMap
from lcm_scale.explain.levels import EDGES, PAIRS, REGIONS, network_order, networks
from lcm_scale.report.pictures import Drawn
from lcm_scale.report.style import INK, MODEL, MUTED, RULE, style

WIDTH = 3.7  # inches: 355 pixels
COLOURS = "RdBu_r"
NOISE = "#c9ced3"
DASH = "\N{EN DASH}"
LEAST_DOT = 5.0  # points squared of an edge that differs
MOST_BARS = 12
MOST_DRAWN = 100  # edges of a brain: more hide each other
CHANGE = "Change of r for one standard deviation of the score"


@dataclass(frozen=True)
class OfToken:
    """A figure of one token.

    Attributes:
        drawn: with its numbers.   caption: what it shows.
        decoder: of the decoder, which is not held against noise; else of people memory.
    """

    token: TokenMap
    drawn: Drawn
    caption: str
    decoder: bool = False


def figures(found: Found, centres: np.ndarray | None) -> Iterator[OfToken]:
    """Token by token.  Args: centres: (R, 3) mm of the regions, None where they are not known."""
    for token in found.tokens:
        if token.memory:
            yield from _of_memory(found, token, centres)
        caption = (
            "Where the decoder's token looks: cross-attention, a mean over heads, layers, scans "
            "and models. Not held against noise."
        )
        figure = attention(found, token)
        rows = tables.region_rows(found, [token])
        yield _of(token, "attention", figure, rows, caption, True)
        if token.decoder.shares:
            caption = (
                "What the decoder's answer hangs on: integrated gradients, as shares of its "
                "variation over scans. Not held against noise."
            )
            named = tables.pair_rows if found.levels.pairs else tables.region_rows
            figure = gradients(found, token)
            yield _of(token, "gradients", figure, named(found, [token]), caption, True)


def _of_memory(found: Found, token: TokenMap, centres: np.ndarray | None) -> Iterator[OfToken]:
    order = "their networks" if found.levels.pairs else "the atlas"
    caption = (
        f"Edges, regions in the order of {order}. Above the diagonal the whole pattern, in grey; "
        "below it, in colour, what differs from noise."
    )
    edges = list(tables.edge_rows(found, [token]))
    yield _of(token, "edges", matrix(found, token), edges, caption)
    if PAIRS in token.levels:
        caption = "Mean edge between two networks; grey numbers do not differ from noise."
        rows = tables.pair_rows(found, [token])
        yield _of(token, "networks", pairs(found, token), rows, caption)
    some = any(token.levels[level].differs.any() for level in (EDGES, REGIONS))
    if some and centres is not None:
        caption = (
            f"{_drawn_edges(token)} that differ from noise; regions that do are coloured, others "
            "grey."
        )
        shown = [edges[i] for i in np.flatnonzero(furthest(token))]
        figure = brain(found, token, centres)
        drawn = shown or tables.region_rows(found, [token])
        yield _of(token, "brain", figure, drawn, caption)


def _of(
    token: TokenMap,
    what: str,
    figure: Figure,
    rows: Iterable[tables.Row],
    caption: str,
    decoder: bool = False,
) -> OfToken:
    alt = f"{wording.title(token)}. {caption}"
    drawn = Drawn(f"{token.stem}-{what}", figure, list(rows), alt, token.target)
    return OfToken(token, drawn, caption, decoder)


def change(token: TokenMap, level: str) -> np.ndarray:
    """(V,) of r for one standard deviation of the score, beyond label-permuted models'."""
    assert token.memory is not None  # figures of a memory alone ask
    return token.memory.levels[level].beyond * token.memory.spread


def matrix(found: Found, token: TokenMap) -> Figure:
    """All edges above the diagonal in grey, below it those that differ."""
    atlas, own = found.levels.atlas, token.levels[EDGES]
    order = network_order(atlas)
    values = square(change(token, EDGES), atlas.n_regions)[np.ix_(order, order)]
    some = square(own.differs.astype(float), atlas.n_regions)[np.ix_(order, order)] > 0
    limit = _limit(values)
    with style():
        figure = Figure(figsize=(WIDTH, 3.5))
        axes = figure.subplots()
        grey = np.where(np.triu(np.ones_like(values), 1) > 0, np.abs(values), np.nan)
        axes.imshow(grey, cmap="Greys", vmin=0, vmax=2 * limit)
        rows, columns = np.nonzero(np.tril(some, -1))
        points = axes.scatter(
            columns,
            rows,
            c=values[rows, columns],
            cmap=COLOURS,
            vmin=-limit,
            vmax=limit,
            s=max(LEAST_DOT, (180 / atlas.n_regions) ** 2),
            marker="s",
            linewidths=0,
        )
        bar = figure.colorbar(points, ax=axes, location="bottom", shrink=0.7, aspect=30)
        bar.set_label(CHANGE, fontsize=8)
        bar.outline.set_visible(False)
        bar.set_ticks([-limit, 0, limit], labels=[wording.signed(x, 3) for x in (-limit, 0, limit)])
        bar.ax.tick_params(labelsize=7.5)
        _named(axes, found, order)
        if not len(rows):
            axes.text(
                0.27,
                0.22,
                "no edge differs\nfrom noise",
                transform=axes.transAxes,
                ha="center",
                color=MUTED,
                fontsize=8.5,
            )
    return figure


def _named(axes: Axes, found: Found, order: np.ndarray) -> None:
    """Networks' names beside the rows, and lines between networks."""
    atlas, names = found.levels.atlas, networks(found.levels.atlas)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not names:
        return
    own = [atlas.networks[i] for i in order]
    starts = [i for i, name in enumerate(own) if not i or own[i - 1] != name]
    ends = [*starts[1:], len(own)]
    for start in starts[1:]:
        axes.axhline(start - 0.5, color=RULE, lw=0.6)
        axes.axvline(start - 0.5, color=RULE, lw=0.6)
    if len(starts) <= 20:
        middles = [(a + b - 1) / 2 for a, b in zip(starts, ends, strict=True)]
        axes.set_yticks(middles, [_short(name) for name in names], fontsize=7)
        axes.tick_params(axis="y", length=0)


def pairs(found: Found, token: TokenMap) -> Figure:
    """Pairs of networks: coloured where they differ, and a number in each while there is room."""
    own, names = token.levels[PAIRS], networks(found.levels.atlas)
    limit = _limit(change(token, PAIRS))
    with style():
        figure = Figure(figsize=(WIDTH, 3.5))
        axes = figure.subplots()
        colours = matplotlib.colormaps[COLOURS]
        for (a, b), value, differs in zip(
            found.levels.pairs, change(token, PAIRS), own.differs, strict=True
        ):
            row, column = sorted((names.index(a), names.index(b)), reverse=True)
            face = colours(0.5 + 0.5 * value / limit) if differs else "#f3f5f6"
            axes.add_patch(
                matplotlib.patches.Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, color=face)
            )
            if len(names) <= 10:
                dark = differs and abs(value) > 0.6 * limit
                ink = "white" if dark else INK if differs else "#7f8992"
                text = wording.signed(float(value), 3)
                axes.text(column, row, text, ha="center", va="center", fontsize=5.6, color=ink)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=7)
        axes.set_xticks(
            range(len(names)), [_short(name) for name in names], fontsize=7, rotation=90
        )
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel(CHANGE, fontsize=8)
    return figure


def brain(found: Found, token: TokenMap, centres: np.ndarray) -> Figure:
    """Edges that differ on a glass brain; regions that do in colour, others small and grey."""
    from nilearn.plotting import plot_connectome  # seconds, for brains alone

    limit = _limit(change(token, EDGES))
    shown = square(furthest(token), found.levels.atlas.n_regions)
    with style(), matplotlib.rc_context({"figure.constrained_layout.use": False}):
        figure = Figure(figsize=(2 * WIDTH, 2.5))
        plot_connectome(
            shown,
            centres,
            node_color=faces(token),
            node_size=np.where(token.levels[REGIONS].differs, 22.0, 4.0),
            edge_cmap=COLOURS,
            edge_vmin=-limit,
            edge_vmax=limit,
            display_mode="lzr",
            figure=figure,
            axes=(0, 0, 1, 1),
            annotate=False,
            edge_kwargs={"linewidth": 1.1},
            colorbar=False,
        )
    # nilearn has placed the axes. Of a figure without an engine, saving takes the style's.
    figure.set_layout_engine(PlaceHolderLayoutEngine(True, True))
    return figure


def furthest(token: TokenMap) -> np.ndarray:
    """(E,) the change of the edges that differ, at most `MOST_DRAWN`, 0 elsewhere."""
    own = token.levels[EDGES]
    some = np.flatnonzero(own.differs)
    some = some[np.argsort(-np.abs(own.z[some]), kind="stable")][:MOST_DRAWN]
    found = np.zeros(len(own.value))
    found[some] = change(token, EDGES)[some]
    return found


def faces(token: TokenMap) -> list[str]:
    """A colour a region: grey where it does not differ from noise."""
    values, colours = change(token, REGIONS), matplotlib.colormaps[COLOURS]
    scaled = 0.5 + 0.5 * values / _limit(values)
    differs = token.levels[REGIONS].differs
    return [to_hex(colours(x)) if d else NOISE for x, d in zip(scaled, differs, strict=True)]


def _drawn_edges(token: TokenMap) -> str:
    some = int(token.levels[EDGES].differs.sum())
    return "Edges" if some <= MOST_DRAWN else f"The {MOST_DRAWN} edges furthest out of {some:,}"


def attention(found: Found, token: TokenMap) -> Figure:
    """The decoder's attention by network, or by the regions with most of it where the atlas knows
    none, against an even spread."""
    atlas, weight = found.levels.atlas, token.decoder.mean.attention
    names = networks(atlas)
    if names:
        own = np.array([names.index(n or "none") for n in atlas.networks])
        values = np.bincount(own, weight, len(names)) / np.bincount(own, minlength=len(names))
    else:
        top = np.argsort(-weight)[:MOST_BARS]
        names, values = [atlas.label(int(i)) for i in top], weight[top]
    used = token.decoder.mean.gate > 0
    with style():
        figure = Figure(figsize=(WIDTH, 0.7 + 0.22 * len(names)))
        axes = figure.subplots()
        axes.barh(range(len(names)), values * atlas.n_regions, 0.7, color=MODEL if used else NOISE)
        axes.axvline(1, color=MUTED, lw=1, ls=(0, (4, 3)))
        axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=7.5)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Attention to a region, of an even spread", fontsize=8)
    return figure


def gradients(found: Found, token: TokenMap) -> Figure:
    """The pairs of networks, or regions, that carry most of the decoder's variation."""
    level = PAIRS if found.levels.pairs else REGIONS
    values = token.decoder.shares[level]
    labels = (
        [a if a == b else f"{_short(a)} {DASH} {_short(b)}" for a, b in found.levels.pairs]
        if level == PAIRS
        else [found.levels.atlas.label(i) for i in range(len(values))]
    )
    top = np.argsort(-np.abs(values))[:MOST_BARS]
    used = token.decoder.mean.gate > 0
    with style():
        figure = Figure(figsize=(WIDTH, 0.7 + 0.22 * len(top)))
        axes = figure.subplots()
        axes.barh(range(len(top)), values[top], 0.7, color=MODEL if used else NOISE)
        axes.axvline(0, color=MUTED, lw=0.8)
        axes.set_yticks(range(len(top)), [labels[i] for i in top], fontsize=7.5)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Share of the decoder's variation", fontsize=8)
    return figure


def _limit(values: np.ndarray) -> float:
    """What the darkest colour stands for."""
    return max(float(np.abs(values).max(initial=0)), 1e-9)


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
