"""From files and overrides to a recipe: what lies on what, and what a short form stands for.

A recipe file may open with `defaults: [optim/two_stage]`: files of the same recipes folder laid
under it, in order, each merged into the section its folder names. `key=value` overrides come last;
`model=1b` is short for `model.preset=1b`, `data=[a,b]` for `data.sets=[a,b]`, `optim=reference`
lays `optim/reference.yaml` over the section. A mapping is merged key by key, anything else
replaced. `${data.shards_dir}` stands for another key of the same recipe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lcm_scale.config.check import FLAGS, REFERENCE, check_section, shown
from lcm_scale.config.fields import described, section_of
from lcm_scale.config.run import Recipe
from lcm_scale.config.yaml_text import parse, read_file
from lcm_scale.errors import InputError, nearest
from lcm_scale.terminal import one_line

SHORTHAND = {"model": "preset", "data": "sets"}
BESIDE = re.compile(r"[\w-][\w.@+-]*(/[\w-][\w.@+-]*)*")  # a file of the recipes folder or below
MOST_PARTS = 10  # of an override's key: its value nests below them
MOST_LAYERS = 100  # files under one recipe, those that come twice counted twice
MOST_REFERENCES = 20  # in one recipe: each may hold others, so many would unfold without end

Schema = TypeVar("Schema")  # Recipe, ShardRecipe, SweepRecipe, AblationRecipe
Layer = tuple[str, dict[str, Any]]  # where it comes from, what it says


def load(schema: type[Schema], path: str | Path | None, overrides: Sequence[str] = ()) -> Schema:
    """Compose a recipe: schema defaults < `defaults:` files < the file < overrides.

    Args:
        path: the recipe; None composes from the schema's defaults alone.
        overrides: `key=value` strings, values in YAML.
    Raises: InputError naming the file and key, with the nearest right key.
    """
    where = str(path) if path else "overrides"
    folder = Path(path).parent if path else Path("recipes")
    layers = _layers(Path(path), ()) if path else []
    layers += [(_quoted(o), _parse_override(o, schema, folder)) for o in overrides]
    said: dict[str, Any] = {}
    for name, layer in layers:
        check_section(layer, schema, name)
        said = _laid_over(said, layer)
    full = _complete(schema, said)
    if any(REFERENCE in str(layer) for _, layer in layers):
        full = _complete(schema, _resolved(full, where))
    if not full["name"] and path:
        full["name"] = Path(path).stem
    check_section(full, schema, where, final=True)
    return cast(Schema, _built(schema, full))


def override(key: str, value: Any) -> str:
    """`key=value` as `load` takes it, for a value that was read from YAML: null stays nothing, and
    text that YAML would take for something else is put in quotes.

    Args: key: dotted.   value: plain data.
    """
    if not isinstance(value, str):
        return f"{key}={json.dumps(value, ensure_ascii=False)}"  # JSON is YAML
    try:
        plain = parse(value, key) == value
    except InputError:
        plain = False
    return f"{key}={value if plain else json.dumps(value, ensure_ascii=False)}"


def from_stored(
    schema: type[Schema], stored: Mapping[str, Any], overrides: Sequence[str] = ()
) -> Schema:
    """A recipe from the plain values that one was written down as, with `overrides` on them.

    Raises: InputError as `load`.
    """
    said = [override(key, value) for key, value in stored.items()]
    return load(schema, None, [*said, *overrides])


def dump(recipe: Any) -> str:
    """The resolved recipe as YAML, loadable again."""
    return OmegaConf.to_yaml(OmegaConf.structured(recipe))


def read_yaml(path: Path) -> dict[str, Any]:
    """A stored recipe as it stands, no schema asked.

    Raises: InputError where the file is missing or no mapping in YAML.
    """
    data = _read(path)
    return _resolved(data, str(path)) if REFERENCE in str(data) else data


def expand(path: str) -> Path:
    """A path from a recipe, with ~ for a home folder. Variables are not filled in: a stranger's
    recipe must not read our environment into files that are written.

    Raises: InputError where ~ names nobody.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: no home folder of that name") from error


# -- layers ----------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise InputError(one_line(f"{path}: no such recipe{nearest(path.name, siblings)}"))
    data = read_file(path)
    if data is None:  # a recipe of nothing but the defaults
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected keys and values at the top level")
    return data


def _layers(path: Path, above: tuple[Path, ...]) -> list[Layer]:
    """The file's defaults, each in its section, then the file itself.

    Args: above: the files whose defaults led here.
    """
    if path in above:
        chain = " -> ".join(p.name for p in (*above[above.index(path) :], path))
        raise InputError(f"{path}: defaults go round in a circle: {chain}")
    own = _read(path)
    result: list[Layer] = []
    for name in _defaults(own, path):
        below = path.parent / f"{name}.yaml"
        section, slash, _ = name.rpartition("/")
        if slash:
            result.append((str(below), {section: _read(below)}))
        else:
            result += _layers(below, (*above, path))
        if len(result) > MOST_LAYERS:
            raise InputError(f"{path}: defaults: more than {MOST_LAYERS} files lie under it")
    return [*result, (str(path), own)]


def _defaults(own: dict[str, Any], path: Path) -> list[str]:
    """What a file names under `defaults`, which is taken out of it."""
    names = own.pop("defaults", [])
    if not isinstance(names, list):
        raise InputError(
            one_line(
                f"{path}: defaults={shown(names)}: expected a list of files, "
                "as in [optim/two_stage]"
            )
        )
    for name in names:
        if not isinstance(name, str) or not BESIDE.fullmatch(name):
            raise InputError(
                one_line(
                    f"{path}: defaults: '{shown(name)}': expected a file of the recipes folder, "
                    "without its .yaml, such as optim/two_stage"
                )
            )
    return names


def _parse_override(text: str, schema: type, folder: Path) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    where = _quoted(text)
    parts = key.split(".")
    if not equals or not all(part.strip() for part in parts):
        raise InputError(f"{where}: expected key=value, for example trainer.max_steps=3")
    if len(parts) > MOST_PARTS:
        raise InputError(f"{where}: a key of more than {MOST_PARTS} parts")
    parsed = parse(value, where) if value else None
    if schema is Recipe and key in SHORTHAND and not isinstance(parsed, dict):
        if key == "data" and isinstance(parsed, list):
            return {"data": {"sets": parsed}}
        return {key: {SHORTHAND[key]: [value] if key == "data" else value}}
    if schema is Recipe and key == "optim" and isinstance(parsed, str):
        if not BESIDE.fullmatch(value):
            raise InputError(f"{where}: expected a file of {folder / 'optim'}, such as two_stage")
        return {"optim": _read(folder / "optim" / f"{value}.yaml")}
    if isinstance(parsed, bool | int | float) and _is_text(schema, parts):
        parsed = value  # name=1.10 and name=yes are that text
    for part in reversed(parts):
        parsed = {part: parsed}
    return cast(dict[str, Any], parsed)


def _quoted(override: str) -> str:
    return one_line(f"override '{shown(override)}'")


def _is_text(schema: type, parts: Sequence[str]) -> bool:
    """Whether a dotted key is a field of text."""
    one = described(schema).get(parts[0])
    if one is None:
        return False
    if len(parts) == 1:
        return one.type in (str, str | None)
    inner = section_of(one.type)
    return inner is not None and _is_text(inner, parts[1:])


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged key by key, anything else replaced."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = _laid_over(old, value)
        result[key] = value
    return result


# -- from what was said to a recipe ----------------------------------------------------------------


def _complete(schema: type, said: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, laid over the schema's defaults, also in each item of a list of sections."""
    full = _laid_over(asdict(schema()), said)
    for name, one in described(schema).items():
        inner = section_of(one.type)
        if inner is not None and isinstance(full[name], list):
            full[name] = [
                _complete(inner, item) if isinstance(item, Mapping) else item for item in full[name]
            ]
    return full


def _resolved(full: dict[str, Any], where: str) -> dict[str, Any]:
    """References to other keys filled in.  Raises: InputError for one that leads nowhere."""
    if str(full).count(REFERENCE) > MOST_REFERENCES:
        raise InputError(f"{where}: more than {MOST_REFERENCES} references to other keys")
    try:
        filled = OmegaConf.to_container(OmegaConf.create(full), resolve=True)
    except OmegaConfBaseException as error:
        first = " ".join([line.strip() for line in str(error).splitlines() if line.strip()][:2])
        raise InputError(one_line(f"{where}: {first}")) from error
    except RecursionError:
        raise InputError(f"{where}: references to other keys go round in a circle") from None
    if REFERENCE in str(filled):  # it would be stored, and filled in when the recipe is read again
        raise InputError(
            f"{where}: '{REFERENCE}' is left when references to other keys are filled in"
        )
    return cast(dict[str, Any], filled)


def _built(schema: type, full: Mapping[str, Any]) -> Any:
    """The schema's object from complete data that have passed `check_section`."""
    return schema(**{name: _value(full[name], one.type) for name, one in described(schema).items()})


def _value(value: Any, kind: Any) -> Any:
    if value is None or kind is Any:
        return value
    if get_origin(kind) is list:
        return [_value(item, get_args(kind)[0]) for item in value]
    if get_origin(kind) is dict:
        return {key: _value(item, get_args(kind)[1]) for key, item in value.items()}
    section = section_of(kind)
    if section is not None:
        return _built(section, value)
    if kind is bool and isinstance(value, str):
        return FLAGS[value.lower()]
    plain = next((k for k in get_args(kind) if k is not type(None)), kind)
    return plain(value)  # a whole number where a number or text is meant
