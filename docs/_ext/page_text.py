"""Text of the program as Markdown that means itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def plain(text: str) -> str:
    """Text without a character that Markdown would obey; of backticks, code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\*_\[\]<>#])", r"\\\1", part)
        for part in parts
    )


def code(text: str) -> str:
    """`text` as code, '' where there is none."""
    return f"`{text}`" if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of Markdown cells."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", r"\|") for c in line) + " |" for line in lines
    )


def toctree(names: Iterable[str]) -> str:
    """The pages of a folder, in the menu."""
    return "```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"
