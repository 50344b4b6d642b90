"""YAML to plain data, for recipes that may come from strangers.

YAML can say more than a recipe means: keys that stand twice, dates, bytes, sets, objects, names
that contain themselves or unfold to gigabytes, references that read the environment. All that is
refused here, in one line. Numbers are read as JSON writes them, so that `1e-5` is a number, and
`007`, `12:30` and `2026-01-01` are text. So are `yes` and `no`, which tables hold as labels; only
`true` and `false` are neither.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from lcm_scale.config.check import REFERENCE, shown
from lcm_scale.errors import InputError
from lcm_scale.terminal import one_line

LARGEST_FILE = 2**20  # bytes
MOST_NODES = 20_000  # values and keys once every alias is written out
DEEPEST = 50  # values within values
LONGEST_TEXT = 10_000  # characters of one text: references repeat it, and those repeat them
MERGE = "tag:yaml.org,2002:merge"
TEXT = "tag:yaml.org,2002:str"
TAGS: Final = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")} | {
    f"tag:yaml.org,2002:{kind}" for kind in ("seq", "map", "merge")
}
PLAIN_REFERENCE = re.compile(r"\$\{[\w.]+\}")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 but for its numbers, dates and yes and no, and not without end."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(None, None, f"values nested deeper than {DEEPEST}", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rpartition(":")[2] not in ("bool", "int", "float", "timestamp", "value")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def read_file(path: Path) -> Any:
    """The data of a file.  Raises: InputError where it cannot be read, or is no YAML for a
    recipe."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: larger than {LARGEST_FILE // 2**20} MiB, which no recipe is")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not valid YAML: byte {error.start} is no UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return parse(text, str(path))


def parse(text: str, where: str) -> Any:
    """The data of a text.  Raises: InputError naming `where`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Walk(where).visit(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = error.problem or "not understood"
        raise InputError(one_line(f"{where}: not valid YAML: {what}{place}")) from error
    except yaml.YAMLError as error:
        raise InputError(one_line(f"{where}: not valid YAML: {error}")) from error
    except (ValueError, LookupError) as error:  # such as !!bool x, !!int "abc"
        raise InputError(one_line(f"{where}: not valid YAML: {shown(str(error))}")) from error


class _Walk:
    """A walk over what was parsed, before anything is made of it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.nodes = 0
        self.above: list[int] = []  # ids of the nodes around the one that is visited

    def visit(self, node: yaml.Node) -> None:
        self.nodes += 1
        if id(node) in self.above:
            raise self.fault(node, "a value that contains itself by its alias")
        if self.nodes > MOST_NODES:
            raise self.fault(node, f"more than {MOST_NODES} values once aliases are written out")
        if len(self.above) > DEEPEST:
            raise self.fault(
                node, f"values nested deeper than {DEEPEST} once aliases are written out"
            )
        if isinstance(node, yaml.ScalarNode) and len(node.value) > LONGEST_TEXT:
            raise self.fault(node, f"a text longer than {LONGEST_TEXT} characters")
        if node.tag not in TAGS:
            raise self.fault(node, f"{shown(node.tag)} has no meaning in a recipe")
        self.above.append(id(node))
        if isinstance(node, yaml.MappingNode):
            self.see_keys(node)
            for _, value in node.value:
                self.visit(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                self.visit(value)
        elif REFERENCE in PLAIN_REFERENCE.sub("", node.value):
            raise self.fault(
                node,
                f"'{shown(node.value)}': a recipe reads no environment and no other resolver; "
                "only ${key.of.this.recipe} is filled in",
            )
        self.above.pop()

    def see_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if key.tag == MERGE:
                continue
            if key.tag != TEXT or REFERENCE in key.value:
                what = shown(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise self.fault(key, f"key {what or 'null'}: expected text; put it in quotes")
            if key.value in seen:
                raise self.fault(key, f"key '{shown(key.value)}' stands twice")
            seen.add(key.value)

    def fault(self, node: yaml.Node, what: str) -> InputError:
        line = node.start_mark.line + 1 if node.start_mark else 1
        return InputError(one_line(f"{self.where}: line {line}: {what}"))
