"""What the site is made of: every public name says its shapes and errors in numpydoc's form, every
key of a recipe says what it is, and every verb and option has its place."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("numpydoc", reason="numpydoc comes with the extra [docs]")

EXTENSION = Path(__file__).parents[2] / "docs" / "_ext"
# Of numpydoc's checks those that a reader would miss: no docstring; a parameter that is not told,
# is none, stands in another order, or says nothing; no Returns.
ASKED = {"GL08", "PR01", "PR02", "PR03", "PR04", "PR07", "RT01"}


@pytest.fixture(scope="module", autouse=True)
def extension() -> Iterator[None]:
    sys.path.insert(0, str(EXTENSION))
    yield
    sys.path.remove(str(EXTENSION))


def module(name: str) -> ModuleType:
    import importlib

    return importlib.import_module(name)


def offered() -> list[str]:
    """Public names, and of classes their own methods."""
    api = module("api_pages")
    names: list[str] = []
    for full in api.public_names():
        thing = api.named(full)
        names.append(full)
        if inspect.isclass(thing):
            names += [
                f"{full}.{name}"
                for name, member in vars(thing).items()
                if not name.startswith("_")
                and (inspect.isfunction(member) or isinstance(member, classmethod | property))
            ]
    return names


def test_every_public_name_says_what_it_takes_and_gives() -> None:
    from numpydoc.validate import validate

    names = offered()
    assert {"lcm_scale.LCMClassifier.fit", "lcm_scale.load_model"} <= set(names)
    wrong = {
        name: errors
        for name in names
        if (errors := [text for mark, text in validate(name)["errors"] if mark in ASKED])
    }
    assert not wrong


def test_what_can_refuse_its_input_says_so() -> None:
    api = module("api_pages")
    for full in api.public_names():
        thing: Any = api.named(full)
        told = inspect.getdoc(thing.fit if hasattr(thing, "fit") else thing) or ""
        assert "Raises\n------" in told or full.endswith("InputError"), full


def test_every_key_of_every_recipe_says_what_it_is() -> None:
    keys = module("recipe_keys")
    from lcm_scale.config.fields import described, section_of

    def silent(schema: type, prefix: str) -> Iterator[str]:
        said = keys.comments(schema)
        for name, one in described(schema).items():
            inner = section_of(one.type)
            if inner is not None:
                yield from silent(inner, f"{prefix}.{name}")
            elif not said[name]:
                yield f"{prefix}.{name}"

    found = [key for name, (_, kind) in keys.PAGES.items() for key in silent(kind, name)]
    assert not found


@dataclass
class Commented:
    above: int = 1  # beside,
    # two lines
    # above
    below: int = 2
    long: tuple[int, ...] = (
        1,
        2,
    )  # at its end
    silent: int = 3


def test_comments_above_and_beside_a_key_are_its_own() -> None:
    assert module("recipe_keys").comments(Commented) == {
        "above": "beside,",
        "below": "two lines above",
        "long": "at its end",
        "silent": "",
    }


def test_the_page_of_a_verb_has_all_that_its_help_has(lcm) -> None:
    pages = dict(module("verb_pages").verb_pages())
    _, shown, _ = lcm("--help")
    verbs = re.findall(r"^  (\w+)  ", shown.partition("Commands:")[2], re.MULTILINE)
    assert set(verbs) == set(pages) - {"index"}
    assert "--accept-kind" in pages["predict"]
    assert "## lcm-scale sweep plan" in pages["sweep"]


def test_what_markdown_would_obey_is_shown() -> None:
    page_text = module("page_text")
    assert page_text.plain("a_b <c> [d] `e_f`") == r"a\_b \<c\> \[d\] `e_f`"
    assert page_text.table(("a", "b"), [("x|y", "z")]).splitlines()[2] == r"| x\|y | z |"
