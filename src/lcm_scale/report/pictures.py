"""Figures as files and within a page: each as PNG, as SVG and as the CSV of the numbers in
it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from lcm_scale.csv_text import csv_text
from lcm_scale.files import write_atomic
from lcm_scale.report import style

PNG_DPI = 220  # 790 pixels across a column of a journal
ENDINGS = ("png", "svg", "csv")


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        stem: of its files.   rows: what it shows, as its CSV has it.
        alt: for those who cannot see it.   target: whose it is, '' of none.
        narrow: the same for a page as narrow as a telephone's, where it takes another layout.
        math: what stands between dollar signs is a formula (`style.style`).
    """

    stem: str
    figure: Figure
    rows: Sequence[Mapping[str, Any]]
    alt: str
    target: str = ""
    narrow: Figure | None = None
    math: bool = False

    @property
    def name(self) -> str:
        """The stem as a file may be called."""
        return file_name(self.stem)

    @cached_property
    def svg(self) -> bytes:
        """Drawn once for the file and the page."""
        return svg(self.figure, self.math)


def shown(drawn: Drawn, folder: str = "figures") -> Markup:
    """A figure within a page, with links to its files.

    Args: folder: where the files lie, as seen from the page; '' beside it.
    """
    place = f"{folder}/{drawn.name}" if folder else drawn.name
    if drawn.narrow is None:
        picture = _image(_embedded(drawn.svg), drawn.figure, drawn.alt)
    else:  # not a <picture>: browsers choose its source before they know that they print
        picture = Markup("").join(
            (
                _image(_embedded(drawn.svg), drawn.figure, drawn.alt, "for-wide"),
                _image(
                    _embedded(svg(drawn.narrow, drawn.math)), drawn.narrow, drawn.alt, "for-narrow"
                ),
            )
        )
    return _with_files(picture, [f"{place}.{ending}" for ending in ENDINGS])


def shown_file(drawn: bytes, alt: str, caption: str, files: Sequence[str]) -> Markup:
    """A figure that lies beside the page, within it.

    Args: drawn: the SVG.   caption: below it.   files: its own, as seen from the page.
    """
    picture = Markup('<img src="{}" alt="{}">').format(_embedded(drawn), alt)
    return _with_files(picture, files, caption)


def _with_files(picture: Markup, files: Sequence[str], caption: str = "") -> Markup:
    links = Markup(" · ").join(
        Markup('<a href="{}">{}</a>').format(file, file.rpartition(".")[2].upper())
        for file in files
    )
    words = Markup("<figcaption>{}</figcaption>").format(caption) if caption else ""
    return Markup('<figure>{}{}<figcaption class="files">{}</figcaption></figure>').format(
        picture, words, links
    )


def image(figure: Figure, alt: str, raster: bool = False) -> Markup:
    """Within a page, as SVG.

    Args: alt: for those who cannot see it.   raster: as PNG, where an SVG would be very large.
    """
    drawn = _embedded(png(figure), "png") if raster else _embedded(svg(figure))
    return _image(drawn, figure, alt)


def _image(embedded: Markup, figure: Figure, alt: str, where: str = "") -> Markup:
    """Args: where: its CSS class: on which pages it is to be seen."""
    width = round(figure.get_figwidth() * 96)
    shown_on = Markup(' class="{}"').format(where) if where else ""
    return Markup('<img{} src="{}" alt="{}" width="{}">').format(shown_on, embedded, alt, width)


def _embedded(drawn: bytes, form: str = "svg+xml") -> Markup:
    return Markup("data:image/{};base64,{}").format(form, base64.b64encode(drawn).decode())


def svg(figure: Figure, math: bool = False) -> bytes:
    """As a file; the same figure is the same file."""
    buffer = io.BytesIO()
    with style.style(math):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def png(figure: Figure, math: bool = False) -> bytes:
    """As a file."""
    buffer = io.BytesIO()
    with style.style(math):
        figure.savefig(buffer, format="png", dpi=PNG_DPI)
    return buffer.getvalue()


def write(figures: Sequence[Drawn], folder: Path, earlier: str = "*") -> None:
    """Write every figure's three files, and clear those of earlier figures, known by their PNG.

    Args: earlier: pattern of the stems that may be cleared.
    Raises: InputError where the folder cannot be written.
    """
    for drawn in figures:
        write_atomic(folder / f"{drawn.name}.png", png(drawn.figure, drawn.math))
        write_atomic(folder / f"{drawn.name}.svg", drawn.svg)
        write_atomic(folder / f"{drawn.name}.csv", csv_text(drawn.rows).encode())
    written = {drawn.name for drawn in figures}
    for old in folder.glob(f"{earlier}.png"):
        if old.stem not in written:
            for ending in ENDINGS:
                old.with_suffix(f".{ending}").unlink(missing_ok=True)


def file_name(name: str) -> str:
    """Letters, digits, '-', '_' and '.', so that a target's name never leaves the folder."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")
