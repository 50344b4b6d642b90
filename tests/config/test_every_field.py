"""Every key of every recipe: a wrong type, a wrong choice and both sides of each bound are one
clear line that names the key, and nothing is written."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import pytest
import yaml

from lcm_scale import cli
from lcm_scale.config import Recipe, ShardRecipe, SweepRecipe, load
from lcm_scale.config.check import fields_of
from lcm_scale.config.fields import Constraint
from lcm_scale.errors import InputError

SCHEMAS = (Recipe, ShardRecipe, SweepRecipe)
LISTS = ("phases", "groups")  # of sections
FIELDS = [(schema, *found) for schema in SCHEMAS for found in fields_of(schema)]


def kinds(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def wrong_types(kind: Any) -> list[Any]:
    wanted = next(k for k in kinds(kind) if k is not type(None))
    origin = get_origin(wanted) or wanted
    wrong: dict[Any, list[Any]] = {
        int: ["word", True, [1], {"a": 1}, 1.5, math.nan, math.inf],
        float: ["word", True, [1.0], {"a": 1.0}],
        bool: ["word", 3, [True], {"a": True}],
        str: [["a"], {"a": "b"}, True],
        list: ["word", 3, {"a": 1}],
        dict: ["word", 3, ["a"]],
    }
    found = wrong[origin]
    if origin in (list, dict) and get_args(wanted)[-1] in (str, float):
        found = [*found, [[1]] if origin is list else {"a": [1]}]
    return found if type(None) in kinds(kind) else [*found, None]


def refused_values(kind: Any, constraint: Constraint) -> Iterator[Any]:
    wanted = next(k for k in kinds(kind) if k is not type(None))
    number = int if wanted is int else float
    numeric = {int, float} & {wanted, *get_args(wanted)}
    if numeric and not constraint.free:
        wide = 1 if number is int else 1e-3
        if math.isfinite(constraint.low):
            yield number(constraint.low if constraint.low_open else constraint.low - wide)
        if math.isfinite(constraint.high):
            yield number(constraint.high if constraint.high_open else constraint.high + wide)
        if number is float:
            yield from (math.nan, math.inf, -math.inf)
    if constraint.choices:
        yield f"{constraint.choices[0]}x"
    if constraint.pattern:
        yield from ("../../x", "/x", "~/x", "a/../b", "a\nb", "..")


def written(key: str, value: Any, schema: type, folder: Path) -> Path:
    """A recipe file with this value at this key."""
    kind = next(k for s, name, k, _ in FIELDS if s is schema and name == key)
    holder = get_origin(next(k for k in kinds(kind) if k is not type(None)))
    scalar = not isinstance(value, list | dict)
    if holder is list and scalar and isinstance(value, str | float) and value != "word":
        value = [value]
    elif holder is dict and scalar and isinstance(value, float):
        value = {"a": value}
    nested: Any = value
    for part in reversed(key.split(".")):
        nested = {part: [nested] if part in LISTS else nested}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(nested), encoding="utf-8")
    return path


def complaint(path: Path, schema: type, key: str, value: Any) -> str:
    try:
        load(schema, path)
    except InputError as error:
        line = str(error)
        assert "\n" not in line and key.rpartition(".")[2] in line, line
        return line
    raise AssertionError(f"{key}={value!r} is taken")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_wrong_type_at_any_key_is_refused(schema: type, tmp_path: Path) -> None:
    for own, key, kind, _ in FIELDS:
        inner = (kind, *get_args(kind))
        if own is schema and Any not in inner and dict[str, Any] not in inner:
            for value in wrong_types(kind):
                complaint(written(key, value, schema, tmp_path), schema, key, value)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_wrong_choice_or_the_wrong_side_of_a_bound_is_refused(
    schema: type, tmp_path: Path
) -> None:
    for own, key, kind, constraint in FIELDS:
        if own is schema:
            assert constraint is not None
            for value in refused_values(kind, constraint):
                complaint(written(key, value, schema, tmp_path), schema, key, value)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_right_side_of_a_bound_and_every_choice_is_taken(schema: type, tmp_path: Path) -> None:
    for own, key, kind, constraint in FIELDS:
        assert constraint is not None
        if own is not schema or get_origin(kind) in (list, dict):
            continue
        values: list[Any] = list(constraint.choices)
        number = int if int in kinds(kind) else float
        if math.isfinite(constraint.low) and not constraint.low_open:
            values.append(number(constraint.low))
        if math.isfinite(constraint.high) and not constraint.high_open:
            values.append(number(constraint.high))
        for value in values:
            load(schema, written(key, value, schema, tmp_path))


@pytest.mark.parametrize(("schema", "key", "kind", "constraint"), FIELDS)
def test_no_key_is_without_a_constraint_or_a_reason_why_it_needs_none(
    schema: type, key: str, kind: Any, constraint: Constraint | None
) -> None:
    assert constraint is not None, f"{key}: say in config/ what it may be, or why anything may"
    bounded = math.isfinite(constraint.low) or math.isfinite(constraint.high)
    assert bounded or constraint.choices or constraint.pattern or constraint.free, key


SAMPLE = [
    "trainer.precision=bf17",
    "trainer.accelerator=cuda",
    "trainer.devices=0",
    "trainer.keep_checkpoints=0",
    "trainer.max_epochs=-3",
    "optim.adaptive.lr=-1",
    "model.width=0",
    "model.layers=0",
    "evaluate.folds=1",
    "evaluate.protocol=paperr",
    "name=../../x",
    "name=/tmp/x",
    "name=&a [*a]",
    "optim=2026-01-01",
    "optim=5",
    "model=[1]",
    "trainer=3",
    "phases=3",
    "phases=[3]",
    "a..b=1",
    ".a=1",
    "a.=1",
    "=1",
    "seed",
    "data.shards_dir=${oc.env:HOME}",
    "title=${oc.decode:x}",
    "trainer.devices=true",
    "trainer.max_steps=1.5",
    "seed=.nan",
]


@pytest.mark.parametrize("override", SAMPLE)
@pytest.mark.parametrize("verb", ["pretrain", "evaluate"])
def test_a_verb_exits_2_with_one_line_and_writes_nothing(
    verb: str,
    override: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "run.yaml").write_text("name: run\ndata: {sets: [none]}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lcm-scale", verb, "run.yaml", override])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1, error
    assert [p.name for p in tmp_path.iterdir()] == ["run.yaml"]
