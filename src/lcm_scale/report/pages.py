"""What all pages are made with: their templates, every text escaped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader

from lcm_scale.evaluation.several import clear
from lcm_scale.report import style


def environment(room: str = "report", **filters: Callable[..., Any]) -> Environment:
    """The templates of a room and of this one, with a page's own filters and the colours of
    their style; `below` asks whether a p is below .05.

    Args: room: the folder of the package that is looked into first.
        filters: by their names in the templates.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader("lcm_scale", each) for each in (room, "report")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(filters)
    made.tests["below"] = clear
    made.globals.update(blue=style.MODEL, warning=style.WARNING, other=style.OTHERS[1])
    return made
