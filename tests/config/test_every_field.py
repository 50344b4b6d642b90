"""Every field of every schema: what is wrong with its value is said on load, in one line that names
its key; and every field either has a constraint or is listed here with the reason why not."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from lcm_scale import config
from lcm_scale.cli import app as cli
from lcm_scale.config import AblationRecipe, Recipe, ShardRecipe, SweepRecipe
from lcm_scale.config.fields import Constraint, described, section_of
from lcm_scale.errors import InputError

SCHEMAS = (Recipe, ShardRecipe, SweepRecipe, AblationRecipe)

# Fields whose every value means something, and why.
ANY_VALUE = {
    "Recipe.title": "words for the report",
    "Recipe.phases.name": "words for the log; empty: its number",
    "Recipe.evaluate.set": "judged by the opened data; empty: the last set",
    "Recipe.evaluate.target": "judged by the opened data; empty: the first group",
    "Recipe.evaluate.group": "judged by the opened data; empty: everybody stands alone",
    "Recipe.evaluate.stratify": "judged by the opened data; empty: no strata",
    "ShardRecipe.cohort": "people are hashed with it, whatever it is; empty: the name",
    "ShardRecipe.source.entities": "entities of the files' names, judged by the names that are there",
    "ShardRecipe.source.site": "a word of the lab's own; empty: not known",
    "ShardRecipe.groups.default": "a category, judged by the scans that are read",
    "ShardRecipe.groups.map": "the table's words and a category each, judged by the scans",
    "ShardRecipe.scalars.unit": "words for the report",
    "ShardRecipe.scalars.missing": "numbers of the lab's own",
    "ShardRecipe.context.unit": "words for the manifest",
    "ShardRecipe.context.map": "as in groups",
    "ShardRecipe.context.missing": "numbers of the lab's own",
    "ShardRecipe.notes": "words for the manifest",
    "SweepRecipe.title": "words for the page",
    "SweepRecipe.recipe": "a file, judged when it is opened; empty is refused there by name",
    "SweepRecipe.shards_dir": "empty: as the varied recipe says",
    "SweepRecipe.axes": "keys and values of the varied recipe, which judges them",
    "SweepRecipe.also": "as axes",
    "AblationRecipe.title": "words for the page",
    "AblationRecipe.recipe": "a file, judged when it is opened; empty is refused there by name",
    "AblationRecipe.shards_dir": "empty: as the base says",
    "AblationRecipe.variants": "keys and values of the base, which judges them",
}


@dataclass(frozen=True)
class Case:
    """One field.

    Attributes:
        key: dotted, without numbers of list items.   kind: its type without None; of a list or a
            mapping, its items' type.
        wrap: from a value of that type to an override that sets the field to it.
    """

    schema: type
    key: str
    kind: Any
    container: Any
    optional: bool
    constraint: Constraint
    wrap: Callable[[Any], str]

    def __str__(self) -> str:
        return f"{self.schema.__name__}.{self.key}"


def wrapped(prefix: str, listed: str, key: str) -> Callable[[Any], str]:
    if not listed:
        return lambda value: f"{prefix}{key}={value}"
    named = "name: a, " if listed in ("groups", "scalars", "context") and key != "name" else ""
    return lambda value: f"{listed}=[{{{named}{key}: {value}}}]"


def cases(schema: type, owner: type, prefix: str = "", listed: str = "") -> Iterator[Case]:
    for name, one in described(schema).items():
        section = section_of(one.type)
        key = f"{listed}.{name}" if listed else f"{prefix}{name}"
        if section is not None:
            if get_origin(one.type) is list:
                yield from cases(section, owner, listed=key)
            else:
                yield from cases(section, owner, f"{prefix}{name}.")
            continue
        kinds = get_args(one.type) if type(None) in get_args(one.type) else (one.type,)
        kind, container = kinds[0], get_origin(kinds[0])
        if container is not None:
            kind = get_args(kind)[-1]
        wrap = wrapped(prefix, listed, name)
        if get_origin(kind) is list:  # a list of lists: what is said of one list of them
            kind, outer = get_args(kind)[0], wrap
            wrap = lambda value, outer=outer: outer(f"[{value}]")  # noqa: E731
        yield Case(owner, key, kind, container, len(kinds) > 1, one.constraint, wrap)


CASES = [case for schema in SCHEMAS for case in cases(schema, schema)]


def value_in(case: Case, value: Any) -> str:
    """The override that sets a field, or an item of it."""
    if case.container is list:
        return case.wrap(f"[{value}]")
    return case.wrap(f"{{x: {value}}}" if case.container is dict else value)


def refused(case: Case, override: str) -> str:
    with pytest.raises(InputError) as caught:
        config.load(case.schema, None, [override])
    message = str(caught.value)
    assert case.key in message.partition("': ")[2], message  # not only in the quoted override
    assert "\n" not in message
    return message


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_value_of_another_type_is_refused(case: Case) -> None:
    # true and 1 are no numbers and no truth here, and a quoted number is text.
    wrong = {
        bool: ("1", "maybe", "[]", "{a: 1}"),
        int: ("many", "true", "1.5", "'1'", ".nan", "[1]", "{a: 1}", str(2**63)),
        float: ("many", "true", "'1'", ".nan", ".inf", "-.inf", "[1]", "{a: 1}", str(2**64)),
        str: ("[a]", "{a: 1}", '"\\x07"', '"\\ud800"'),
    }
    for value in wrong.get(case.kind, ()):
        refused(case, value_in(case, value))
    if case.kind is str and case.container is not None:
        for value in ("true", "1.10"):  # YAML has changed what was written
            assert "in quotes" in refused(case, value_in(case, value))
    if case.container is not None:
        for value in ("word", "3", "null", "{a: 1}" if case.container is list else "[a]"):
            refused(case, case.wrap(value))
    elif not case.optional:
        refused(case, case.wrap("null"))


@pytest.mark.parametrize("case", [c for c in CASES if c.constraint.choices], ids=str)
def test_a_choice_takes_its_members_and_nothing_else(case: Case) -> None:
    choices = case.constraint.choices
    assert f"(one of {', '.join(choices)})" in refused(case, value_in(case, "no-such-word"))
    assert f"did you mean '{choices[0]}'" in refused(case, value_in(case, f"{choices[0]}x"))
    for word in choices:
        config.load(case.schema, None, [value_in(case, word)])


@pytest.mark.parametrize("case", [c for c in CASES if c.constraint.bounds], ids=str)
def test_both_sides_of_a_bound(case: Case) -> None:
    c, step = case.constraint, 1 if case.kind is int else 1e-6
    for bound, is_open, inwards in ((c.low, c.above, step), (c.high, c.below, -step)):
        if bound is None:
            continue
        inside, outside = (bound + inwards, bound) if is_open else (bound, bound - inwards)
        message = refused(case, value_in(case, outside))
        assert f"={outside}: expected a" in message
        assert str(bound) in message.rpartition("expected")[2]
        config.load(case.schema, None, [value_in(case, inside)])


WRONG_FORMS = {
    "must not be empty": ("''", "' '"),
    "a whole number of people": ("1", "none", "ALL", "'-3'", "'2.5'", "''"),
    "expected M, F": ("X", "man"),
    "a name holds": (
        *("../x", "a/../b", "/x", "~/x", "a//b", "a/", ".", "a/.", "'a\\b'", "'a:b'", "$X", "'*'"),
        *("' a'", "'a '", '"a\\nb"', "x" * 201),
    ),
    "a shard set's name holds": ("a/b", "a.b", "..", "'a b'", "x" * 201),
    "a label group's name holds": ("pain/rest", "''", "..", "'a:b'", "a=b", "'a\\b'"),
    "a label column's name holds": ("pain/rest", "..", "'a:b'"),
    "expected a regular expression": ("'('", "abc"),
    "the expression holds a group named subject": ("'('", "abc", "'sub-(.*)'", "'(?P<run>.)'"),
    "expected a pattern of files": ("''", "/x/*.mat", "'a**'", "a//b"),
}
RIGHT_FORMS = {
    "must not be empty": ("a", "/a/b", "~/a", "'a: b'"),
    "a whole number of people": ("2", "10", "all"),
    "expected M, F": ("M", "F", "''"),
    "a name holds": ("a", "run/fold-1", "'a b'", "Ärzte_1.2+x@y=z", "'0'"),
    "a shard set's name holds": ("a", "a_b-1"),
    "a label group's name holds": ("a", "'eye status'", "a.b+c@d-1"),
    "a label column's name holds": ("''", "DX_GROUP", "'eye status'"),
    "expected a regular expression": ("'sub-(\\d+)'",),
    "the expression holds a group named subject": ("'sub-(?P<subject>.+)_'",),
    "expected a pattern of files": ("'*.mat'", "'**/*.mat'", "a/b.mat"),
}


@pytest.mark.parametrize("case", [c for c in CASES if c.constraint.form], ids=str)
def test_text_of_another_form_is_refused(case: Case) -> None:
    sentence = case.constraint.form.sentence if case.constraint.form else ""
    (key,) = [key for key in WRONG_FORMS if sentence.startswith(key)]
    for word in WRONG_FORMS[key]:
        assert sentence in refused(case, value_in(case, word))
    for word in RIGHT_FORMS[key]:
        config.load(case.schema, None, [value_in(case, word)])


# Without a package that offers any, a field of plug-ins alone takes no word at all.
LISTS = [
    c for c in CASES if c.constraint.unique and (c.constraint.choices or not c.constraint.plugins)
]


@pytest.mark.parametrize("case", LISTS, ids=str)
def test_a_list_that_names_one_thing_twice_is_refused(case: Case) -> None:
    word = case.constraint.choices[0] if case.constraint.choices else "a"
    assert "named twice" in refused(case, case.wrap(f"[{word}, {word}]"))


def test_every_field_has_a_constraint_or_a_reason() -> None:
    bare = {
        str(c)
        for c in CASES
        if c.kind is not bool
        and not (c.constraint.choices or c.constraint.plugins)
        and not (c.constraint.bounds or c.constraint.form)
    }
    assert bare == set(ANY_VALUE)


def test_the_shape_of_a_section_is_checked_too() -> None:
    for override, key in [
        ("optim=null", "optim=null: expected keys"),
        ("trainer=[1]", "trainer=[1]: expected keys"),
        ("optim.adaptive=5", "optim.adaptive=5: expected keys"),
        ("phases=[]", "phases=[]: expected at least 1"),
        ("phases=[3]", "phases=3: expected keys"),
        ("phases={epochs: 3}", "expected a list"),
    ]:
        with pytest.raises(InputError) as caught:
            config.load(Recipe, None, [override])
        assert key in str(caught.value)


def test_a_run_may_go_on_elsewhere_at_another_world_size_and_for_longer_with_nothing_else_changed() -> (
    None
):
    keys = (
        "max_steps max_epochs keep_every_steps hang_seconds hang_factor accelerator devices nodes "
        "strategy offload accumulate threads keep_checkpoints checkpoint_layers compile loggers "
        "cuda_graph"
    )
    places = {"name", "runs_dir", "data.shards_dir"}
    beside = {"title", "evaluate.bootstrap", "evaluate.baselines", "evaluate.confounded"} | {
        "evaluate.primary",
        "evaluate.metrics",
        "evaluate.label_counts",
        "evaluate.label_draws",
        "evaluate.final",
        "evaluate.confounds",
        "evaluate.calibration",
        "evaluate.conformal",
        "evaluate.permutations",
        "evaluate.permute_within",
    }
    assert config.may_differ() == places | beside | {f"trainer.{key}" for key in keys.split()}


def test_a_run_that_diverged_may_go_on_with_what_steadies_it() -> None:
    more = config.may_differ(after_divergence=True) - config.may_differ()
    assert more == {
        "optim.momentum.lr",
        "optim.adaptive.lr",
        "optim.edge_branch_lr",
        "optim.clip_norm",
        "trainer.precision",
    }


@pytest.mark.parametrize(
    ("line", "key"),
    [
        *(
            (f"{verb} run.yaml {override}", override.partition("=")[0])
            for verb in ("pretrain", "finetune", "evaluate", "cost", "doctor")
            for override in ("trainer.precision=bf17", "optim.adaptive.lr=-1")
        ),
        ("pretrain run.yaml trainer.keep_checkpoints=0 --dry-run", "trainer.keep_checkpoints"),
        ("pretrain run.yaml name=../../x", "name '../../x'"),
        ("pretrain run.yaml title=${oc.env:HOME}", "${oc.env:HOME}"),
        ("evaluate run.yaml evaluate.folds=1", "evaluate.folds"),
        ("shard set.yaml 'groups=[{name: pain/rest}]'", "groups.name 'pain/rest'"),
        ("shard set.yaml block=0", "block"),
        ("sweep plan sweep.yaml fit.bootstrap=0", "fit.bootstrap"),
        ("sweep run sweep.yaml retries=-1", "retries"),
    ],
)
def test_the_command_line_says_it_in_one_line_and_writes_nothing(
    line: str,
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "run.yaml").write_text("data: {sets: [first]}\n")
    (tmp_path / "set.yaml").write_text("reader: simulated\n")
    (tmp_path / "sweep.yaml").write_text("recipe: run\naxes: {size: [8x1]}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lcm-scale", *shlex.split(line)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and key in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.yaml", "set.yaml", "sweep.yaml"]
