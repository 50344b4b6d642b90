"""Composition of recipes, overrides, and errors that name the key; every recipe that ships
composes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcm_scale import config
from lcm_scale.config import Recipe, ShardRecipe, dump, expand, load
from lcm_scale.errors import InputError
from lcm_scale.sweep.points import open_sweep

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(RECIPES.rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.relative_to(RECIPES).as_posix())
def test_every_shipped_recipe_composes(path: Path, tmp_path: Path) -> None:
    folder = path.parent.relative_to(RECIPES).as_posix()
    if folder == "data":
        assert config.load(ShardRecipe, path).name
    elif path.stem.startswith("sweep_"):
        assert open_sweep(path).points
    elif folder == ".":
        assert config.load(Recipe, path).name
    else:
        # A section: what lies in optim/ is laid under `optim` of a run.
        run = tmp_path / "run.yaml"
        (tmp_path / folder).symlink_to(path.parent)
        run.write_text(f"defaults: [{folder}/{path.stem}]\n")
        config.load(Recipe, run)


def test_layers_overlay_in_order_and_overrides_come_last(tmp_path: Path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "calm.yaml").write_text("adaptive: {lr: 1.0e-5}\nwarmup_steps: 7\n")
    (tmp_path / "base.yaml").write_text("seed: 1\nname: base\n")
    (tmp_path / "run.yaml").write_text(
        "defaults: [base, optim/calm]\nseed: 2\noptim: {adaptive: {eps: 1.0e-6}}\n"
    )
    recipe = config.load(Recipe, tmp_path / "run.yaml", ["optim.warmup_steps=9"])
    assert (recipe.name, recipe.seed, recipe.optim.warmup_steps) == ("base", 2, 9)
    assert (recipe.optim.adaptive.lr, recipe.optim.adaptive.eps) == (1e-5, 1e-6)


def test_a_recipe_is_named_after_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    assert config.load(Recipe, tmp_path / "mine.yaml").name == "mine"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("model=1b", "model.preset", "1b"),
        ("data=abide", "data.sets", ["abide"]),
        ("data=[a,b]", "data.sets", ["a", "b"]),
        ("optim.adaptive.lr=1e-5", "optim.adaptive.lr", 1e-5),
        ("trainer.max_steps=3", "trainer.max_steps", 3),
    ],
)
def test_shorthand_and_dotted_overrides(override: str, key: str, value: object) -> None:
    found: object = config.load(Recipe, None, [override])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value


def test_optim_override_lays_a_shipped_section_over_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "calm.yaml").write_text("warmup_steps: 7\n")
    (tmp_path / "run.yaml").write_text("seed: 2\n")
    assert config.load(Recipe, tmp_path / "run.yaml", ["optim=calm"]).optim.warmup_steps == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainr: {max_steps: 3}", "unknown key 'trainr', did you mean 'trainer'?"),
        ("trainer: {max_step: 3}", "unknown key 'trainer.max_step', did you mean 'max_steps'?"),
        ("phases: [{epoch: 3}]", "unknown key 'phases.epoch', did you mean 'epochs'?"),
        ("seed: many", "many"),
        ("model: {attention: absorb}", "model.attention=absorb, did you mean 'absorbed'?"),
        ("phases: [{stage: momentm}]", "phases.stage=momentm, did you mean 'momentum'?"),
        ("[1, 2]", "expected keys and values"),
        ("a: [", "not valid YAML"),
        ("defaults: [optim/missing]", "no such recipe"),
    ],
)
def test_a_mistake_names_file_and_key_in_one_line(text: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        config.load(Recipe, file)
    assert expected in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "abide_small.yaml").write_text("seed: 1\n")
    with pytest.raises(InputError, match="did you mean 'abide_small'"):
        config.load(Recipe, tmp_path / "abide_smal.yaml")


@pytest.mark.parametrize(
    "override", ["trainer.max_stepz=3", "seed", "=3", "seed=[", "trainer.max_steps=few"]
)
def test_a_bad_override_is_quoted(override: str) -> None:
    with pytest.raises(InputError, match="override"):
        config.load(Recipe, None, [override])


@pytest.mark.parametrize(
    "override",
    [
        "trainer.global_batch=0",
        "trainer.accumulate=0",
        "evaluate.repeats=0",
        "evaluate.bootstrap=0",
        "data.validation=1.5",
    ],
)
def test_a_number_out_of_range_is_named_with_its_key(override: str) -> None:
    with pytest.raises(InputError, match=f"{override}: expected"):
        config.load(Recipe, None, [override])


@pytest.mark.parametrize(
    "override",
    [
        "block=0",
        "shard_scans=-1",
        "simulation.subjects=-1",
        "simulation.volumes=1",
        "simulation.sex_effect=1.0",
    ],
)
def test_a_shard_recipes_numbers_are_checked_before_anything_is_written(override: str) -> None:
    with pytest.raises(InputError, match=f"{override}: expected"):
        config.load(ShardRecipe, None, [override])


def test_a_dumped_recipe_loads_again(tmp_path: Path) -> None:
    recipe = config.load(
        Recipe, None, ["name=x", "model=1b", "optim.adaptive.lr=3e-5", "data=[a,b]"]
    )
    (tmp_path / "again.yaml").write_text(config.dump(recipe))
    assert config.load(Recipe, tmp_path / "again.yaml") == recipe


# -- recipes from strangers --------------------------------------------------------------------------


def refused(tmp_path: Path, text: str | bytes, *overrides: str, schema: type = Recipe) -> str:
    """The one line with which a recipe file is refused."""
    file = tmp_path / "run.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        load(schema, file, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    + [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi")]
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("defaults: [run]", "defaults go round in a circle: run -> run"),
        ("defaults: 5", "defaults: expected a list"),
        ("defaults: optim/two_stage", "defaults: expected a list"),
        ("defaults: [5]", "defaults: '5': expected a recipe"),
        ("defaults: [../run]", "defaults: '../run': expected a recipe"),
        ("defaults: [/etc/passwd]", "expected a recipe"),
        ("name: &a [*a]", "an alias (*name) stands within what it names"),
        (BOMB, "more than 100,000 values"),
        ("name: a\nname: b", "duplicate key name"),
        ("name: ${oc.env:HOME}", "name: '${oc.env:HOME}': recipes resolve no environment"),
        ("title: a ${oc.create:x} b", "resolve no environment variables"),
        ("data: {shards_dir: '${title:x}'}", "data.shards_dir: "),
        ("name: [a", "not valid YAML"),
        ("a:\tb: c", "not valid YAML"),
        (b"\xff\xfe\x00", "no UTF-8 text"),
        ("- name", "expected keys and values at the top level"),
        ("3: 4", "unknown key '3'"),
        ("name: " + "x" * 1_000_001, "expected at most 1,000,000"),
        ("phases: [[1]]", "expected a section"),
        ("trainer: [1]", "trainer=[1]: expected a section"),
        ("name: yes", "YAML reads it as true or false; quote it"),
    ],
)
def test_a_strangers_recipe_is_one_clear_line(
    text: str | bytes, expected: str, tmp_path: Path
) -> None:
    assert expected in refused(tmp_path, text)


def test_an_empty_file_is_a_recipe_of_defaults(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").touch()
    assert load(Recipe, tmp_path / "run.yaml").name == "run"


def test_another_key_may_be_named_and_the_environment_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    file = tmp_path / "run.yaml"
    file.write_text("title: run of ${name}\ndata:\n  shards_dir: $SECRET/${name}")
    recipe = load(Recipe, file)
    assert recipe.title == "run of run"
    assert "hidden" not in dump(recipe) and str(expand(recipe.data.shards_dir)) == "$SECRET/run"


@pytest.mark.parametrize("name", ["pain/rest", "a\nb", "..", "a{b}", " x"])
def test_a_label_group_has_a_name_that_columns_and_files_can_bear(
    name: str, tmp_path: Path
) -> None:
    text = f"groups: [{{name: {name!r}}}]".replace("'a\\nb'", '"a\\nb"')
    assert "groups.name=" in refused(tmp_path, text, schema=ShardRecipe)
