"""What a checkpoint means: both layouts there and back, and every wrong value is one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lcm_scale.errors import InputError
from lcm_scale.weights import checkpoints, hub
from lcm_scale.weights.meaning import CHECKPOINT, EXPORTED, Meaning, Official

OLD = Path(__file__).parents[1] / "formats" / "0.1.0"
FREE = "data[0].connectivity."  # whatever JSON holds may stand there


def stored(layout: str) -> dict[str, Any]:
    """The head of a file that release 0.1.0 wrote."""
    if layout == EXPORTED:
        return json.loads((OLD / "hub" / "config.json").read_text())
    head = checkpoints.read_file(OLD / "runs/run/checkpoints/step-00000005.ckpt")["lcm"]
    # As of an imported model, which alone has the last member.
    unused = {"sex_embed.weight": torch.zeros(1, 8)}
    official = {"finetuned": 0, "unused": unused, "backbone_keys": ["a"], "head_keys": ("b",)}
    return {**head, "official": official}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a tree of values."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from places(inner, (*path, number))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of the tree with another value at a place; `...` takes the place away."""
    value = copy.copy(list(value) if isinstance(value, tuple) else value)
    key, *rest = path
    if rest:
        value[key] = changed(value[key], tuple(rest), new)
    elif new is ...:
        del value[key]
    else:
        value[key] = new
    return value


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def spelt(path: tuple[Any, ...]) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def kind(value: Any) -> str:
    """JSON's types; a whole number may stand for any number."""
    for name, types in {"flag": bool, "number": (int, float), "list": (list, tuple)}.items():
        if isinstance(value, types):
            return name
    return type(value).__name__


def complaint(data: Any, layout: str) -> str:
    """The line of the refusal; '' where there is none."""
    try:
        Meaning.from_json(data, layout, "the/file")
    except InputError as error:
        return str(error)
    return ""


STRANGE = (
    *(None, True, 3, -1, 10**400, 1.5, float("nan"), float("inf"), "", "x\ny", [], [[]], [None]),
    *({}, {"a": 1}, {1: 2}, [["x"] * 3], b"bytes", torch.zeros(2), {"": {"": [{}]}}, "\x1b[31m"),
)


@pytest.mark.parametrize("layout", [CHECKPOINT, EXPORTED])
def test_a_value_of_a_wrong_type_at_any_place_is_one_clear_line(layout: str) -> None:
    whole, refused = stored(layout), 0
    for path in places(whole):
        for strange in STRANGE:
            damaged = changed(whole, path, strange)
            line = complaint(damaged, layout)
            if line:
                assert "\n" not in line
                assert line.startswith("the/file: ")
                assert len(line) < 400
                refused += 1
            else:
                same = kind(strange) == kind(at(whole, path))
                free = spelt(path).startswith(FREE) and not isinstance(strange, bytes)
                free |= path == ("dtype",)  # of the file's tensors, which say it themselves
                assert same or free, f"{spelt(path)} may be {strange!r}"
    assert refused > 1000


@pytest.mark.parametrize("layout", [CHECKPOINT, EXPORTED])
def test_a_missing_member_is_named_or_was_never_needed(layout: str) -> None:
    whole = stored(layout)
    optional = {"unknown_subjects", "data", "official", "dtype", "networks", "coordinates"}
    optional |= {"default", "merge", *whole["data"][0]["connectivity"], "first", "age"}
    optional |= {"lcm_scale", "torch", "lightning", "numpy", "python", "sex_embed.weight"}
    for path in places(whole):
        if isinstance(path[-1], str) and path[-1] not in optional:
            with pytest.raises(InputError, match=path[-1] if path != ("format",) else "format"):
                Meaning.from_json(changed(whole, path, ...), layout, "the/file")


@pytest.mark.parametrize("data", [None, 3, [], "x", {}, {"format": None}, {"format": CHECKPOINT}])
def test_what_is_no_such_file_at_all_is_said_so(data: Any) -> None:
    with pytest.raises(InputError, match="not of this format"):
        Meaning.from_json(data, EXPORTED, "the/file")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("readout",), "adaptiv", "did you mean 'adaptive'"),
        (("edges",), "fisher", "did you mean 'fisher_z'"),
        (("model", "attention"), "flush", "did you mean 'flash'"),
        (("active",), ["diagnosis", "diagnoses"], "did you mean 'diagnosis'"),
        (("active",), [], "active: expected different targets"),
        (("active",), ["age", "age"], "active: expected different targets"),
        (("scalars", "age"), [1.0, 0.0], "expected above 0"),
        (("scalars", "age"), [1.0, -2.0], "expected above 0"),
        (("scalars", "age"), [float("inf"), 1.0], "scalars.age"),
        (("scalars",), {"diagnosis": [0.0, 1.0]}, "expected one of age"),
        (("atlas", "checksum"), "0" * 16, "its checksum does not fit its regions"),
        (("atlas", "names", 0), "elsewhere", "its checksum does not fit its regions"),
        (("model", "target_tokens"), [3, 3, 2, 2], r"expected the vocabulary's \[3, 3, 2, 1\]"),
        (("model", "n_regions"), 13, "expected the 12 of atlas toy, found 13"),
        (("model", "heads"), 3, "is not a multiple"),
        (("model", "heads"), 0, "a whole number from 1"),
        (("model", "width"), 10**12, "a whole number from 1"),
        (("model", "layers"), 10**9, "a whole number from 1"),
        (("model", "dropout"), 1.5, "a number from 0 to 1"),
        (("model", "depth"), 3, "has an unknown depth"),
        (("vocabulary", 3, "categories"), ["age", "height"], "a list of 1"),
        (("vocabulary", 1, "name"), "diagnosis", "occurs twice"),
    ],
)
def test_values_that_do_not_fit_are_named(path: Any, value: Any, message: str) -> None:
    damaged = changed(stored(EXPORTED), path, value)
    with pytest.raises(InputError, match=message):
        Meaning.from_json(damaged, EXPORTED, "the/file")


def test_sizes_that_are_each_allowed_may_be_too_much_together() -> None:
    """Nothing is allocated to find that out."""
    whole = stored(EXPORTED)
    model = {**whole["model"], "width": 65_536, "layers": 1_024, "ffn": 1_048_576}
    with pytest.raises(InputError, match=r"at most 17,179,869,184 weights, found \d+"):
        Meaning.from_json({**whole, "model": model}, EXPORTED, "the/file")


@pytest.mark.parametrize("layout", [CHECKPOINT, EXPORTED])
def test_what_release_0_1_0_wrote_is_written_again_to_the_letter(layout: str) -> None:
    whole = stored(layout)
    official = whole.pop("official", None)
    dtype = {"dtype": whole["dtype"]} if layout == EXPORTED else {}
    rewritten = {**Meaning.from_json(whole, layout, "the/file").to_json(layout), **dtype}
    if layout == EXPORTED:
        rewritten = json.loads(json.dumps(rewritten))  # JSON has no tuples
    assert rewritten == whole and list(rewritten) == list(whole)
    assert (official is None) == (layout == EXPORTED)


def test_a_meaning_comes_back_as_it_was() -> None:
    meaning = Meaning.from_json(stored(CHECKPOINT), CHECKPOINT, "the/file")
    assert isinstance(meaning.official, Official) and meaning.official.backbone_keys == ("a",)
    ours = replace(meaning, official=None)
    assert Meaning.from_json(ours.to_json(), CHECKPOINT, "the/file") == ours
    given = Meaning.from_json(ours.to_json(EXPORTED), EXPORTED, "the/file")
    hidden = replace(ours, subjects=frozenset(), n_unnamed=20, salt_id="", recipe="", phase="")
    assert given == hidden and len(ours.subjects) == 20
    assert given.to_json(EXPORTED) == ours.to_json(EXPORTED)


def test_one_cannot_be_made_of_values_that_do_not_fit() -> None:
    meaning = Meaning.from_json(stored(EXPORTED), EXPORTED, "the/file")
    for change in ({"readout": "adaptiv"}, {"active": ()}, {"scalars": {"age": (0.0, 0.0)}}):
        with pytest.raises(InputError):
            replace(meaning, **change)


@pytest.mark.parametrize("text", ["", "[", "[]", "3", "[" * 100_000, '{"format": 1' + "0" * 5000])
def test_a_configuration_that_is_no_object_is_one_clear_line(text: str, tmp_path: Path) -> None:
    (tmp_path / hub.CONFIG).write_text(text)
    with pytest.raises(InputError, match=r"config\.json: (not valid JSON|expected an object)"):
        hub.read_folder(tmp_path)


@pytest.mark.parametrize(
    "index", [[], {}, {"weight_map": 3}, {"weight_map": {"x": 3}}, {"weight_map": {"x": "a\n/b"}}]
)
def test_an_index_that_is_damaged_is_one_clear_line(index: Any, tmp_path: Path) -> None:
    (tmp_path / hub.CONFIG).write_bytes((OLD / "hub" / hub.CONFIG).read_bytes())
    (tmp_path / hub.INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"index\.json: [^\n]*$"):
        hub.read_folder(tmp_path)


@pytest.mark.parametrize("state", [..., None, [], {"model.norm.weight": 3}, {3: torch.zeros(1)}])
def test_a_checkpoint_without_weights_is_one_clear_line(state: Any, tmp_path: Path) -> None:
    data = checkpoints.read_file(OLD / "runs/run/checkpoints/step-00000005.ckpt")
    checkpoints.write_file(changed(data, ("state_dict",), state), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="its state_dict holds no weights"):
        checkpoints.load(tmp_path / "a.ckpt")


@pytest.mark.parametrize("head", [..., None, [], 3, {"format": ["x"]}])
def test_a_checkpoint_without_a_meaning_is_one_clear_line(head: Any, tmp_path: Path) -> None:
    data = checkpoints.read_file(OLD / "runs/run/checkpoints/step-00000005.ckpt")
    checkpoints.write_file(changed(data, ("lcm",), head), tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="not a checkpoint of this format"):
        checkpoints.load(tmp_path / "a.ckpt")
