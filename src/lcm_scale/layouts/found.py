"""Found: a folder's layout as `lcm-scale new` writes it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Regions:
    """The regions of a set's files, and how that is known.

    Attributes:
        atlas: the recipe's `atlas`, '' where a table of regions is still to be written.
        why: in words, for the recipe's comment.
        names: of the columns, in the files' order, where that table is to hold them; or empty.
        question: what the person must know and may say, '' where nothing is open.
    """

    atlas: str
    why: str
    names: tuple[str, ...] = ()
    question: str = ""


@dataclass(frozen=True)
class Question:
    """What a folder does not tell.

    Attributes:
        text: one sentence.
        answers: lines of the recipe's source, one of which is right: they are written commented.
    """

    text: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """One layout, found.

    Attributes:
        layout: in words.   name: of the set that is proposed.   reader: the recipe's.
        source: the recipe's source, key by key.
        regions: of the files.   connectivity: the kind that ready matrices are known to be of.
        questions: what is open; the recipe asks, and its dry run where nothing can be done without.
        assumed: answers with which the scans are counted while the questions are open.
        remarks: what a person should know of such files.
    """

    layout: str
    name: str
    reader: str
    source: Mapping[str, Any]
    regions: Regions
    connectivity: str | None = None
    questions: tuple[Question, ...] = ()
    assumed: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def shown(path: Path) -> str:
    """A path as a recipe names it."""
    return path.as_posix()
