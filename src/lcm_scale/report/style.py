"""The one look of all figures: colours that colour-blind people tell apart, fonts, and the words
that must stay with a figure.

The model is always blue and a filled dot, baselines grey or orange and hollow: never colour alone.
A figure is as wide as a telephone's page, so that its words are read there without scaling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

INK, MUTED, RULE, SOFT = "#1f2933", "#5f6b77", "#dde2e7", "#f3f5f7"
WIDTH, SQUARE = 3.6, 3.3  # inches of a figure: 345 and 317 pixels
MODEL = "#0b62a4"
WARNING = "#a63603"
OTHERS = (
    "#8a939c",
    "#d9822b",
    "#7b5ea7",
    "#2a9d8f",
    "#b5446e",
    "#6b7a1f",
)  # grey, orange, purple, teal, wine, olive (after Okabe and Ito)
MARKERS = ("s", "D", "^", "v", "P", "X")
HALO = [
    withStroke(linewidth=2.4, foreground="white")
]  # keeps a label readable where a line passes behind it

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "text.color": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.fonttype": "path",  # the page looks the same where a font is missing
    "svg.hashsalt": "lcm-scale",  # the same figure is the same file
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
}


@contextmanager
def style(math: bool = False) -> Iterator[None]:
    """The one look; wraps drawing and saving, since matplotlib reads some settings only when it
    writes.

    Args:
        math: words between dollar signs are formulas, as logarithmic axes need. Else they are
            words: a category may be called so.
    """
    with matplotlib.rc_context({**_STYLE, "text.parse_math": math}):
        yield


def stamp(figure: Figure, words: str) -> Figure:
    """What must stay with a figure that is cut out of its page: SIMULATED, CONFOUNDED."""
    if words:
        figure.suptitle(words, x=0.99, ha="right", fontsize=8, fontweight="bold", color=WARNING)
    return figure


def look(name: str, model: str, baselines: Sequence[str]) -> tuple[str, str]:
    """(colour, marker) of a model, the same in every figure: its place among all baselines decides,
    drawn or not. A ceiling is none of them."""
    if name == model:
        return MODEL, "o"
    if name not in baselines:
        return INK, "*"
    place = list(baselines).index(name)
    return OTHERS[place % len(OTHERS)], MARKERS[place % len(MARKERS)]
