"""Recipe files and `key=value` laid over each other.

A recipe file may open with `defaults: [optim/two_stage]`: files of the same recipes folder laid
under it, in order, each merged into the section its folder names. `key=value` overrides come last;
`model=1b` is short for `model.preset=1b`, `data=[a,b]` for `data.sets=[a,b]`, `optim=reference`
lays `optim/reference.yaml` over the section. Values that follow from others are computed where they
are used, never repeated here.

A recipe may come from a stranger and is written into the run folder: `${key}` may name another key
of the recipe, but nothing that reads the machine (`${oc.env:...}` and every other resolver) is
resolved, and `$VAR` in a path stays as it is.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lcm_scale.config.check import check
from lcm_scale.config.run import Recipe
from lcm_scale.errors import InputError, nearest

SHORTHAND = {"model": "preset", "data": "sets"}
LAYER = r"[\w-][\w.-]*(/[\w-][\w.-]*)?"  # a file of the recipes folder, or of one of its folders
MOST_VALUES = 100_000  # of a file or override, aliases written out
LONGEST = 1_000_000  # characters

Schema = TypeVar("Schema")  # Recipe, ShardRecipe, SweepRecipe


def load(schema: type[Schema], path: str | Path | None, overrides: Sequence[str] = ()) -> Schema:
    """Compose a recipe: schema defaults < `defaults:` files < the file < overrides.

    Args:
        path: the recipe; None composes from the schema's defaults alone.
        overrides: `key=value` strings, values in YAML.
    Raises: InputError naming the file and key, with the nearest right key.
    """
    config = OmegaConf.structured(schema)
    folder = Path(path).parent if path else Path("recipes")
    if path is not None:
        for name, layer in _layers(Path(path), ()):
            config = _merge(config, layer, schema, name)
    for override in overrides:
        layer = _parse_override(override, schema, folder)
        config = _merge(config, layer, schema, f"override '{_short(override)}'")
    if not config.name:
        config.name = Path(path).stem if path else ""
    where = str(path) if path else "overrides"
    try:
        recipe = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise InputError(f"{where}: {_first_line(error)}") from error
    check(recipe, where)
    return cast(Schema, recipe)


def dump(recipe: Any) -> str:
    """The resolved recipe as YAML, loadable again."""
    return OmegaConf.to_yaml(OmegaConf.structured(recipe))


def expand(path: str) -> Path:
    """A path from a recipe, with ~ resolved; nothing else of the machine is."""
    return Path(path).expanduser()


def read_yaml(path: Path) -> DictConfig:
    """Raises: InputError where the file is missing or no mapping in YAML."""
    if not path.is_file():
        siblings = [p.stem for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such recipe{nearest(path.stem, siblings)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not valid YAML: no UTF-8 text") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    data = _parse(text, str(path))
    if not isinstance(data, DictConfig):
        raise InputError(f"{path}: expected keys and values at the top level")
    return data


# -- YAML from anybody -----------------------------------------------------------------------------


def _parse(text: str, where: str) -> Any:
    """OmegaConf's view of a YAML text that holds no more than it should.  Raises: InputError."""
    if len(text) > LONGEST:
        raise InputError(f"{where}: {len(text):,} characters, expected at most {LONGEST:,}")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _count(root, {}, where)
        data = OmegaConf.load(io.StringIO(text))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid YAML: {_first_line(error)}") from error
    for key, value in _leaves(OmegaConf.to_container(data), ""):
        if isinstance(value, str) and re.search(r"\$\{[^{}]*:", value):
            raise InputError(
                f"{where}: {key}: '{_short(value)}': recipes resolve no environment variables and "
                "no other resolvers; only ${key} of another key of the recipe"
            )
    return data


def _count(node: yaml.Node, counted: dict[int, int | None], where: str) -> int:
    """How many values a node holds with its aliases written out.

    Raises: InputError where an alias stands within itself, or there are too many.
    """
    if id(node) in counted:
        known = counted[id(node)]
        if known is None:
            raise InputError(f"{where}: an alias (*name) stands within what it names")
        return known
    counted[id(node)] = None
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_count(inner, counted, where) for inner in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_count(inner, counted, where) for pair in node.value for inner in pair)
    if total > MOST_VALUES:
        raise InputError(f"{where}: more than {MOST_VALUES:,} values, aliases written out")
    counted[id(node)] = total
    return total


def _leaves(data: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(data, dict):
        for name, inner in data.items():
            yield from _leaves(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(data, list):
        for number, inner in enumerate(data):
            yield from _leaves(inner, f"{key}.{number}")
    else:
        yield key, data


# -- layers ----------------------------------------------------------------------------------------


def _layers(path: Path, above: tuple[Path, ...]) -> list[tuple[str, DictConfig]]:
    """The file's defaults, each in its section, then the file itself.

    Args:
        above: the files whose defaults led here.
    """
    if path in above:
        chain = " -> ".join(file.stem for file in (*above, path))
        raise InputError(f"{above[0]}: defaults go round in a circle: {chain}")
    own = read_yaml(path)
    names = own.pop("defaults", [])
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(
            f"{path}: defaults: expected a list of recipes, for example [optim/two_stage]"
        )
    result: list[tuple[str, DictConfig]] = []
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(LAYER, name):
            raise InputError(
                f"{path}: defaults: '{name}': expected a recipe of its folder, or of one folder in "
                "it"
            )
        below = path.parent / f"{name}.yaml"
        section, slash, _ = name.rpartition("/")
        if slash:
            result.append((str(below), OmegaConf.create({section: read_yaml(below)})))
        else:
            result += _layers(below, (*above, path))
    return [*result, (str(path), own)]


def _parse_override(text: str, schema: type, folder: Path) -> DictConfig:
    key, equals, value = text.partition("=")
    where = f"override '{_short(text)}'"
    if not equals or not re.fullmatch(r"[^.\s=]+(\.[^.=]+)*", key):
        raise InputError(f"{where}: expected key=value, for example trainer.max_steps=3")
    parsed = None
    if value:
        parsed = OmegaConf.to_container(_parse(f"value: {value}", where)).get("value")  # type: ignore[union-attr]
    if schema is Recipe and key in SHORTHAND and not isinstance(parsed, dict):
        parsed = [value] if key == "data" and not isinstance(parsed, list) else parsed
        key, parsed = f"{key}.{SHORTHAND[key]}", parsed if key == "data" else value
    elif schema is Recipe and key == "optim" and isinstance(parsed, str):
        if not re.fullmatch(LAYER, value):
            raise InputError(f"{where}: expected the name of a recipe in {folder / 'optim'}")
        return OmegaConf.create({"optim": read_yaml(folder / "optim" / f"{value}.yaml")})
    nested: Any = parsed
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return OmegaConf.create(nested)


def _merge(config: DictConfig, layer: DictConfig, schema: type, where: str) -> DictConfig:
    _check_layer(OmegaConf.to_container(layer), schema, "", where)
    try:
        return cast(DictConfig, OmegaConf.merge(config, layer))
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise InputError(f"{where}: {_first_line(error)}") from error


def _check_layer(data: Any, schema: type, prefix: str, where: str) -> None:
    """Keys and types, before OmegaConf sees them: it names no nearest key, and makes numbers of
    words and words of numbers."""
    if not isinstance(data, dict):
        key = prefix.rstrip(".")
        raise InputError(f"{where}: {key}={_short(str(data))}: expected a section, keys and values")
    hints = _hints(schema)
    for key, value in data.items():
        if key not in hints:
            raise InputError(
                f"{where}: unknown key '{prefix}{key}'{nearest(str(key), hints)} "
                f"(known: {', '.join(hints)})"
            )
        kind = hints[key]
        inner = next((a for a in get_args(kind) if is_dataclass(a)), None)
        if is_dataclass(kind):
            _check_layer(value, cast(type, kind), f"{prefix}{key}.", where)
        elif inner is not None and isinstance(value, list):
            for item in value:
                _check_layer(item, cast(type, inner), f"{prefix}{key}.", where)
        else:
            wrong = _wrong_type(value, kind)
            if wrong:
                raise InputError(f"{where}: {prefix}{key}={_short(str(value))}: {wrong}")


@functools.cache
def _hints(schema: type) -> dict[str, Any]:
    hints = get_type_hints(schema)
    return {each.name: hints[each.name] for each in fields(cast(Any, schema))}


def _wrong_type(value: Any, kind: Any) -> str:
    """Why a value from YAML is none of a field's type; '' where it is one."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if kind is Any or (isinstance(value, str) and "${" in value):
        return ""
    if value is None:
        return "" if type(None) in kinds else "expected a value"
    wanted = next(k for k in kinds if k is not type(None))
    origin = get_origin(wanted) or wanted
    if origin in (list, dict):
        if not isinstance(value, origin):
            return "expected a list" if origin is list else "expected keys and values"
        inner = get_args(wanted)[-1]
        entries = value.values() if isinstance(value, dict) else value
        return next((wrong for entry in entries if (wrong := _wrong_type(entry, inner))), "")
    if wanted is bool:
        return "" if isinstance(value, bool) else "expected true or false"
    if wanted is str:
        if isinstance(value, bool):
            return "YAML reads it as true or false; quote it"
        return "expected a text" if isinstance(value, dict | list) else ""
    what = "a whole number" if wanted is int else "a number"
    if isinstance(value, bool | dict | list):
        return f"expected {what}"
    try:
        return "" if wanted is float or float(value) == int(float(value)) else f"expected {what}"
    except (ValueError, OverflowError):
        return f"expected {what}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _first_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join([line.strip() for line in str(error).splitlines() if line.strip()][:2])
