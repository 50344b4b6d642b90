"""A page for each kind of recipe: every key with its default, what it may be, and the comment that
stands beside it in `lcm_scale.config`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any

import yaml
from page_text import code, plain, table, toctree

from lcm_scale import config
from lcm_scale.config.fields import Constraint, described, section_of

PAGES = {
    "run": ("Keys of a run", config.Recipe),
    "shard": ("Keys of a shard set", config.ShardRecipe),
    "sweep": ("Keys of a sweep", config.SweepRecipe),
    "ablation": ("Keys of an ablation", config.AblationRecipe),
}


def key_pages() -> Iterator[tuple[str, str]]:
    """(name of the file, Markdown) of the list and of each kind of recipe."""
    rows = [(f"[{title}]({name}.md)", plain(_says(kind))) for name, (title, kind) in PAGES.items()]
    yield (
        "index",
        "# Recipe keys\n\nEvery key that a recipe may hold. [How recipes are composed]"
        f"(../../recipes.md) is told elsewhere.\n\n{table(('page', 'of what'), rows)}\n\n"
        f"{toctree(PAGES)}",
    )
    for name, (title, kind) in PAGES.items():
        yield name, f"# {title}\n\n" + "\n\n".join(_sections(kind, "")) + "\n"


def _says(schema: type) -> str:
    """The docstring, without the one that dataclasses make up."""
    text = inspect.cleandoc(schema.__doc__ or "")
    return "" if text.startswith(f"{schema.__name__}(") else text


def _sections(schema: type, prefix: str) -> Iterator[str]:
    """The keys of a section, then the sections in it."""
    if prefix:
        yield f"## {prefix.removesuffix('.')}"
    yield plain(_says(schema))
    said = comments(schema)
    inner: list[tuple[str, type]] = []
    rows = []
    for one in dataclasses.fields(schema):
        kind = described(schema)[one.name]
        section = section_of(kind.type)
        if section is None:
            values = _values(kind.constraint, kind.type)
            rows.append((code(prefix + one.name), _default(one), values, plain(said[one.name])))
        else:
            listed = "[]" if str(kind.type).startswith("list") else ""
            inner.append((f"{prefix}{one.name}{listed}.", section))
    yield table(("key", "default", "may be", "what it is"), rows)
    for deeper, section in inner:
        yield from _sections(section, deeper)


def _default(one: dataclasses.Field[Any]) -> str:
    made = one.default_factory
    value = one.default if made is dataclasses.MISSING else made()
    if value is None or value == "":
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).strip()
    return code(text.removesuffix("...").strip())


def _values(constraint: Constraint, kind: Any) -> str:
    if constraint.choices or constraint.plugins:
        offered = ["a [plug-in](../../plugins.md)'s"] if constraint.plugins else []
        return ", ".join([*(code(word) for word in constraint.choices), *offered])
    if constraint.form:
        return plain(constraint.form.sentence.replace("must not be empty", "text"))
    word = {bool: "true, false", int: "whole number", float: "number", str: "text"}.get(kind, "")
    return " ".join(part for part in (plain(word), constraint.bounds) if part)


def comments(schema: type) -> dict[str, str]:
    """What stands in comments above each field and on its lines, by the field's name."""
    source = textwrap.dedent(inspect.getsource(schema))
    notes: dict[int, tuple[bool, str]] = {}  # line -> whether it stands alone, the text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = token.line[: token.start[1]].strip() == ""
            notes[token.start[0]] = (alone, token.string.lstrip("# "))
    found = {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while notes.get(first - 1, (False, ""))[0]:
                first -= 1
            lines = range(first, (node.end_lineno or node.lineno) + 1)
            found[node.target.id] = " ".join(notes[line][1] for line in lines if line in notes)
    return found
