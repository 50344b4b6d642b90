"""What `lcm-scale explain` left in a run's folder, for the evaluation's report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lcm_scale import checked
from lcm_scale.errors import InputError
from lcm_scale.report.pictures import ENDINGS
from lcm_scale.weights.checkpoints import mark_of

FOLDER, FACTS, PAGE = "explain", "explain.json", "explain.html"  # in a run's folder
FORMAT = "lcm-scale-explain/1"


@dataclass(frozen=True)
class ExplainedFigure:
    """A figure of a token.

    Attributes:
        target: of the run.   title: the token in words.   caption: what is to be seen.
        png, svg, csv: its files.
    """

    target: str
    title: str
    caption: str
    png: Path
    svg: Path
    csv: Path


@dataclass(frozen=True)
class ExplainedRun:
    """A run's explanation.

    Attributes: page: its own.   sentences: what differs from noise, a target each.
    """

    page: Path
    sentences: tuple[str, ...]
    figures: tuple[ExplainedFigure, ...]


def explained(run: Path) -> ExplainedRun | None:
    """That of a run, None where nobody has explained it, or its models are others by now.

    Args: run: its folder.   Raises: InputError where its `explain.json` is damaged.
    """
    folder = run / FOLDER
    file = folder / FACTS
    if not file.is_file():
        return None
    own = checked.members(
        checked.read_object(file), "it", ("format", "models", "sentences", "figures")
    )
    if own["format"] != FORMAT:
        raise InputError(
            f"{file}: not of this version ({FORMAT}); run lcm-scale explain {run} again"
        )
    models = checked.members(own["models"], "models", each=checked.text)
    if any(_mark(run / model) != mark for model, mark in models.items()):
        return None
    listed = checked.entries(own["figures"], "figures", checked.members)
    return ExplainedRun(
        folder / PAGE,
        checked.entries(own["sentences"], "sentences", checked.text),
        tuple(_figure(folder, each, f"figures[{n}]") for n, each in enumerate(listed)),
    )


def _mark(model: Path) -> str:
    """Of a checkpoint, '' where it is gone."""
    return mark_of(model) if model.is_file() else ""


def _figure(folder: Path, data: dict[str, object], name: str) -> ExplainedFigure:
    own = checked.members(data, name, ("target", "title", "caption", "file"))
    place = folder / "figures" / checked.file_name(own["file"], f"{name}.file")
    png, svg, csv = (place.with_name(f"{place.name}.{ending}") for ending in ENDINGS)
    target, title, caption = (
        checked.text(own[key], f"{name}.{key}") for key in ("target", "title", "caption")
    )
    return ExplainedFigure(target, title, caption, png, svg, csv)
