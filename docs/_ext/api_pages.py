"""A page for each public name, for autodoc to fill from its docstring."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module

from page_text import plain, table, toctree

import lcm_scale

# What the names that `from lcm_scale import ...` offers take and give.
BESIDE = (
    "lcm_scale.inference.pretrained.PretrainedLCM",
    "lcm_scale.atlas.load_atlas",
    "lcm_scale.atlas.Atlas",
    "lcm_scale.errors.InputError",
)


def public_names() -> list[str]:
    """Full names, those of the package first."""
    offered = (name for name in lcm_scale.__all__ if not name.startswith("_"))
    return [*(f"lcm_scale.{name}" for name in offered), *BESIDE]


def named(full: str) -> object:
    """What a full name stands for."""
    module, _, name = full.rpartition(".")
    return getattr(import_module(module), name)


def api_pages() -> Iterator[tuple[str, str]]:
    """(name of the file, Markdown) of the list and of each name."""
    names = {full.rpartition(".")[2]: full for full in public_names()}
    rows = [
        (f"[`{short}`]({short}.md)", plain(_first_sentence(full))) for short, full in names.items()
    ]
    yield (
        "index",
        "# Python API\n\nFor arrays in Python, and for models that somebody gave away. The names "
        "of the package itself come by `from lcm_scale import ...`, the others from the module "
        "that their page names. All else in the package may change without notice.\n\n"
        f"{table(('name', 'what it is'), rows)}\n\n{toctree(names)}",
    )
    for short, full in names.items():
        yield short, f"# {short}\n\n```{{eval-rst}}\n{_directive(full)}\n```\n"


def _first_sentence(full: str) -> str:
    paragraph = (inspect.getdoc(named(full)) or "").partition("\n\n")[0]
    return paragraph.replace("\n", " ").partition(". ")[0].rstrip(".") + "."


def _directive(full: str) -> str:
    if not inspect.isclass(named(full)):
        return f".. autofunction:: {full}"
    # What scikit-learn's metadata routing adds is told in docs/estimators.md.
    return f".. autoclass:: {full}\n   :members:\n   :exclude-members: {_ROUTING}"


_ROUTING = ", ".join(
    f"set_{verb}_request" for verb in ("fit", "predict", "predict_proba", "score", "transform")
)
