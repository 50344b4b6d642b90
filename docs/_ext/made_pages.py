"""Pages made from the program itself before each build: a page a verb, a page a kind of recipe, a
page a public name. Nothing of them is written by hand, so none can fall behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api_pages import api_pages
from recipe_keys import key_pages
from verb_pages import verb_pages

FOLDER = Path("docs", "generated")
REMOVED = "html_theme.sidebar_secondary.remove"


def write_pages(app: Any) -> None:
    """Into docs/generated/, whatever stood there before."""
    for room, pages in (("cli", verb_pages()), ("keys", key_pages()), ("api", api_pages())):
        folder = Path(app.srcdir) / FOLDER / room
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, text in pages:
            (folder / f"{name}.md").write_text(text, encoding="utf-8")


def first_page(_: Any) -> Iterator[tuple[str, dict[str, str], str]]:
    """index.html at the top of the site, where servers look for it, leads to docs/index.html."""
    yield "index", {"title": "lcm-scale"}, "to_docs.html"


def without_contents(_: Any, page: str, __: str, context: dict[str, Any], ___: Any) -> None:
    """Wide tables and printed lines take the room of the page's own contents."""
    if page.startswith(FOLDER.as_posix()):
        context["meta"] = {**(context.get("meta") or {}), REMOVED: ""}


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", write_pages, priority=100)  # before the gallery
    app.connect("html-collect-pages", first_page)
    app.connect("html-page-context", without_contents)
    app.config.templates_path.append(str(Path(__file__).parent))
    return {"parallel_read_safe": True}
