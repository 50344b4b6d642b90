"""Figures as files and within a page."""

from __future__ import annotations

import base64
import io

from markupsafe import Markup
from matplotlib.figure import Figure

from lcm_scale.report import plots

PNG_DPI = 160


def image(figure: Figure, alt: str) -> Markup:
    """Within a page, as SVG.  Args: alt: for those who cannot see it."""
    buffer = io.BytesIO()
    with plots.style():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    width = round(figure.get_figwidth() * 96)
    return Markup('<img src="data:image/svg+xml;base64,{}" alt="{}" width="{}">').format(
        data, alt, width
    )


def png(figure: Figure) -> bytes:
    """As a file."""
    buffer = io.BytesIO()
    with plots.style():
        figure.savefig(buffer, format="png", dpi=PNG_DPI)
    return buffer.getvalue()


def file_name(name: str) -> str:
    """Letters, digits, '-', '_' and '.', so that a target's name never leaves the folder."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")
