"""What `lcm-scale explain` left in a run's folder, for the evaluation's report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lcm_scale import checked
from lcm_scale.errors import InputError

FOLDER, FACTS, PAGE = "explain", "explain.json", "explain.html"  # in a run's folder
FORMAT = "lcm-scale-explain/1"


@dataclass(frozen=True)
class ExplainedFigure:
    """A figure of a token.

    Attributes:
        target: of the run.   title: the token in words.   caption: what is to be seen.
        png, svg: files.   table: the CSV that holds its numbers.
    """

    target: str
    title: str
    caption: str
    png: Path
    svg: Path
    table: Path


@dataclass(frozen=True)
class ExplainedRun:
    """A run's explanation.

    Attributes: page: its own.   sentences: what differs from noise, a target each.
    """

    page: Path
    sentences: tuple[str, ...]
    figures: tuple[ExplainedFigure, ...]


def explained(run: Path) -> ExplainedRun | None:
    """That of a run, None where nobody has explained it.

    Args: run: its folder.   Raises: InputError where its `explain.json` is damaged.
    """
    folder = run / FOLDER
    file = folder / FACTS
    if not file.is_file():
        return None
    own = checked.members(checked.read_object(file), "it", ("format", "sentences", "figures"))
    if own["format"] != FORMAT:
        raise InputError(
            f"{file}: not of this version ({FORMAT}); run lcm-scale explain {run} again"
        )
    listed = checked.entries(own["figures"], "figures", checked.members)
    return ExplainedRun(
        folder / PAGE,
        checked.entries(own["sentences"], "sentences", checked.text),
        tuple(_figure(folder, each, f"figures[{n}]") for n, each in enumerate(listed)),
    )


def _figure(folder: Path, data: dict[str, object], name: str) -> ExplainedFigure:
    own = checked.members(data, name, ("target", "title", "caption", "file", "table"))
    target, title, caption, stem, table = (
        checked.text(own[key], f"{name}.{key}")
        for key in ("target", "title", "caption", "file", "table")
    )
    place = folder / "figures" / checked.file_name(Path(stem).name, f"{name}.file")
    return ExplainedFigure(
        target,
        title,
        caption,
        place.with_name(f"{place.name}.png"),
        place.with_name(f"{place.name}.svg"),
        folder / checked.file_name(table, f"{name}.table"),
    )
