"""Context: columns beside the labels that nobody predicts; stored, described, checked, united."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.config import ContextConfig, DataConfig, ScalarConfig, ShardRecipe
from lcm_scale.data.context import ContextColumn
from lcm_scale.data.manifest import MANIFEST, ShardManifest, read_manifest
from lcm_scale.data.sets import open_sets
from lcm_scale.data.shards import write_shards
from lcm_scale.data.verify import verify_shards
from lcm_scale.errors import InputError

HAND = ContextConfig("hand", "HAND", "category", map={"R": "right", "L": "left", "?": ""})
DOSE = ContextConfig("dose", unit="mg", missing=[99])


@pytest.fixture
def told(tiny_recipe) -> Callable[..., ShardRecipe]:
    """`told("a", [HAND], HAND="RL?R", first=10)`: a recipe whose table has further columns, a cell
    a person; '' is empty."""

    def make(
        name: str, context: list[ContextConfig], first: int = 1, **columns: Any
    ) -> ShardRecipe:
        n = len(next(iter(columns.values())))
        made = tiny_recipe(name, people=n, first=first, context=context)
        table = Path(made.source.table or "")
        head, *lines = table.read_text().splitlines()
        rows = [
            ",".join([line, *map(str, cells)]) for line, *cells in zip(lines, *columns.values())
        ]
        table.write_text("\n".join([",".join([head, *columns]), *rows]) + "\n")
        return made

    return make


def folder_of(made: ShardRecipe) -> str:
    return str(Path(made.shards_dir) / made.name)


def test_context_is_stored_and_described_and_is_no_target(told) -> None:
    made = told("a", [HAND, DOSE], HAND="RL?RR", dose=[1.5, 99, "", 2, "n/a"])
    manifest = write_shards(made)
    assert manifest.context == (
        ContextColumn("hand", "category", "", ("right", "left"), 4, (3, 1)),
        ContextColumn("dose", "number", "mg", (), 2, ()),
    )
    assert manifest.vocabulary.names == ("diagnosis", "sex", "age")
    sets = open_sets(DataConfig(sets=[folder_of(made)]))
    np.testing.assert_array_equal(
        sets.context, np.array([[0, 1, np.nan, 0, 0], [1.5, np.nan, np.nan, 2, np.nan]], "f4").T
    )
    assert sets.context_columns == manifest.context
    assert verify_shards(Path(folder_of(made))) == manifest


def test_what_every_reader_knows_can_be_context(told) -> None:
    made = told("a", [ContextConfig("motion", "mean_fd", unit="mm")], mean_fd=[0.5, "", 0.25])
    write_shards(made)
    context = open_sets(DataConfig(sets=[folder_of(made)])).context
    np.testing.assert_array_equal(context, np.array([[0.5], [np.nan], [0.25]], "f4"))


def test_a_set_without_context_is_what_it_always_was(tiny_set) -> None:
    folder = tiny_set()
    assert "context" not in json.loads((folder / MANIFEST).read_text())
    assert open_sets(DataConfig(sets=[str(folder)])).context.shape == (6, 0)


def test_the_fingerprint_holds_what_codes_mean(told) -> None:
    marks = set()
    for words in ({"R": "right", "L": "left"}, {"R": "left", "L": "right"}):
        made = told("a", [ContextConfig("hand", kind="category", map=words)], hand="RLR")
        marks.add(write_shards(made).fingerprint)
    assert len(marks) == 2


def test_sets_are_united_by_name_and_codes_of_the_first_stay(told) -> None:
    hand = ContextConfig("hand", kind="category")
    first = told("a", [hand], hand=["right", "left", "right"])
    second = told("b", [DOSE, hand], first=10, dose=[1, 2], hand=["both", "left"])
    for made in (first, second):
        write_shards(made)
    sets = open_sets(DataConfig(sets=[folder_of(first), folder_of(second)]))
    assert sets.context_columns == (
        ContextColumn("hand", "category", "", ("left", "right", "both"), 5, (2, 2, 1)),
        ContextColumn("dose", "number", "mg", (), 2, ()),
    )
    nan = np.nan
    np.testing.assert_array_equal(sets.context.T, [[1, 0, 1, 2, 0], [nan, nan, nan, 1, 2]])


def test_one_name_in_two_units_is_refused(told) -> None:
    first = told("a", [DOSE], dose=[1, 2])
    second = told("b", [ContextConfig("dose", unit="g")], first=10, dose=[1, 2])
    for made in (first, second):
        write_shards(made)
    with pytest.raises(InputError, match="set b: context 'dose' has the unit 'g', in the sets"):
        open_sets(DataConfig(sets=[folder_of(first), folder_of(second)]))


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (ContextConfig("scaner"), r"row 2: no column 'scaner' .*did you mean 'scanner'"),
        (ContextConfig("scanner"), "scanner is 'Trio', expected a number"),
        (
            ContextConfig("scanner", kind="category", map={"Prisma": "P"}),
            "scanner is 'Trio'.*the map of the recipe's context 'scanner' knows Prisma",
        ),
        (ContextConfig("empty"), "context 'empty' has no value in any scan"),
        (ContextConfig("sex", kind="category"), "context 'sex': a target or another column"),
        (ContextConfig("a", "scanner", map={"a": "b"}), "context 'a': map means nothing for a num"),
        (ContextConfig("a", "scanner", "category", unit="T"), "context 'a': unit means nothing"),
    ],
)
def test_what_cannot_be_context_is_refused(context: ContextConfig, message: str, told) -> None:
    made = told("a", [context], scanner=["Trio", "Trio"], empty=["", ""])
    with pytest.raises(InputError, match=message):
        write_shards(made)


def test_a_target_and_context_of_one_name_are_refused(told) -> None:
    made = told("a", [DOSE], dose=[1, 2])
    made.scalars = [ScalarConfig("dose")]
    with pytest.raises(InputError, match="context 'dose': a target or another column of context"):
        write_shards(made)


def test_optional_context_that_nobody_has_is_left_out_and_that_is_said(told) -> None:
    made = told("a", [ContextConfig("drug", kind="category", optional=True)], hand="RL")
    manifest = write_shards(made)
    assert manifest.context == ()
    assert "Left out, since nobody has such a label: drug." in manifest.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(kind="vector"), r"context\[0\].kind: expected one of number, category"),
        (lambda c: c.update(known=2), "the values of hand are not what the manifest says"),
        (lambda c: c.update(categories=["right"], counts=[2]), "the values of hand are not what"),
        (lambda c: c.update(counts=[2]), r"context\[0\].counts: expected a list of 2"),
        (lambda c: c.pop("name"), r"context\[0\] has no name"),
    ],
)
def test_a_strangers_context_is_checked(change, message: str, told) -> None:
    made = told("a", [HAND], HAND="RLR")
    data = json.loads(json.dumps(write_shards(made).to_json()))
    change(data["context"][0])
    with pytest.raises(InputError, match=message):
        opened_again(data, Path(folder_of(made)))


def opened_again(data: dict[str, Any], folder: Path) -> None:
    """The manifest as its maker would write it, its sums made anew."""
    manifest = ShardManifest.from_json(data)
    (folder / MANIFEST).write_text(json.dumps(manifest.to_json()))
    assert read_manifest(folder) == manifest
    open_sets(DataConfig(sets=[str(folder)]))
