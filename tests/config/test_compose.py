"""Composition of recipes, overrides, and errors that name the key; every recipe that ships
composes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lcm_scale import config
from lcm_scale.config import Recipe, ShardRecipe, StageConfig, SweepRecipe
from lcm_scale.errors import InputError
from lcm_scale.sweep.points import open_sweep
from lcm_scale.sweep.variants import open_ablation

RECIPES = Path(__file__).parents[2] / "recipes"
ABLATIONS = ("ablation", "ablation_abide", "ablation_lora")
SHIPPED = sorted(RECIPES.rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.relative_to(RECIPES).as_posix())
def test_every_shipped_recipe_composes(path: Path, tmp_path: Path) -> None:
    folder = path.parent.relative_to(RECIPES).as_posix()
    if folder == "data":
        assert config.load(ShardRecipe, path).name
    elif path.stem.startswith("sweep_"):
        assert open_sweep(path).points
    elif path.stem in ABLATIONS:
        assert open_ablation(path).runs
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
    with pytest.raises(InputError, match=r"did you mean 'abide_small\.yaml'"):
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


LAUGHS = "".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("word", "expected keys and values"),
        ("seed: 1\nseed: 2", "line 2: key 'seed' stands twice"),
        ("trainer: {devices: 1, devices: 2}", "key 'devices' stands twice"),
        ("\tseed: 1", "found character '\\t'"),
        ("1: 2", "key 1: expected text"),
        ("true: 2", "key true: expected text"),
        ("seed: 1\n---\nseed: 2", "another document"),
        ("title: &a [*a]", "contains itself"),
        ("title: &a {x: *a}", "contains itself"),
        (f"k0: &k0 [x]\n{LAUGHS}", "more than 20000 values"),
        (f"title: {'[' * 60}{']' * 60}", "nested deeper than 50"),
        ("title: !!python/object:os.system x", "has no meaning in a recipe"),
        ("title: !!binary aGk=", "has no meaning in a recipe"),
        ("seed: !!int abc", "not valid YAML"),
        ("trainer: {offload: !!bool x}", "not valid YAML"),
        ("optim: ", "optim=null: expected keys and values"),
        ("title: ${oc.env:HOME}", "reads no environment"),
        ("runs_dir: '${oc.env:HOME,x}'", "reads no environment"),
        ("title: '${a.${b}}'", "only ${key.of.this.recipe}"),
        ("evaluate: {confounded: {a: '${oc.env:HOME}'}}", "reads no environment"),
        ("title: $\nruns_dir: '${title}{oc.env:HOME}'", "'${' is left"),
        ("title: \\${seed}", "'${' is left"),
        ("title: ${nowhere}", "'nowhere' not found"),
        ("title: ${title}", "title"),
        ("trainer: {devices: '${title}'}\ntitle: x", "trainer.devices=x: expected a whole number"),
        (f"title: {'${seed}' * 21}", "more than 20 references"),
        ("defaults: [run]", "circle: run.yaml -> run.yaml"),
        ("defaults: [a]", "circle: run.yaml -> a.yaml -> b.yaml -> run.yaml"),
        ("defaults: 5", "defaults=5: expected a list"),
        ("defaults: [5]", "defaults: '5': expected a file"),
        ("defaults:", "defaults=null: expected a list"),
        ("defaults: optim/calm", "defaults=optim/calm: expected a list"),
        ("defaults: [../run]", "expected a file of the recipes folder"),
        ("defaults: [optim/../run]", "expected a file of the recipes folder"),
        ("defaults: [/etc/passwd]", "expected a file of the recipes folder"),
        ("defaults: [~/run]", "expected a file of the recipes folder"),
        ("defaults: [many0]", "more than 100 files"),
    ],
)
def test_what_no_recipe_means_is_one_line_with_its_file(
    text: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("defaults: [b]\n")
    (tmp_path / "b.yaml").write_text("defaults: [run]\n")
    for i in range(8):  # each names the next one twice
        (tmp_path / f"many{i}.yaml").write_text(f"defaults: [many{i + 1}, many{i + 1}]\n")
    (tmp_path / "many8.yaml").write_text("seed: 1\n")
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        config.load(Recipe, file)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(tmp_path)) and "\n" not in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"title: \xff\xfe", "byte 7 is no UTF-8"),
        ("title: h\u00e9".encode("utf-16"), "is no UTF-8"),
        (b"title: \x00", "not valid YAML"),
        (b"#" * 2_000_000, "larger than 1 MiB"),
        (b"title: " + b"[" * 100_000, "nested deeper than 50"),
    ],
)
def test_a_file_that_is_no_text_is_one_line(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(InputError) as caught:
        config.load(Recipe, tmp_path / "run.yaml")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        *("a..b=1", ".a=1", "a.=1", " =1", "phases[0].epochs=3", "phases.0.epochs=3"),
        *("name=&a [*a]", "optim=5", "optim=[a]", "optim=2026-01-01", "optim=../x", "optim=/x"),
        *("model=[1]", "model=", "model=null", "data=", "title=${oc.env:HOME}", "name=../../x"),
        *("name=/x", "name=~/x", "runs_dir=", "seed=" + "9" * 5000, "tri\nner=1"),
    ],
)
def test_an_override_that_means_nothing_is_one_line(override: str) -> None:
    with pytest.raises(InputError) as caught:
        config.load(Recipe, None, [override])
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    # `optim=` names a file, and that is what is missing.
    assert message.startswith("override '") or "recipes/optim/2026-01-01.yaml" in message


@pytest.mark.parametrize("word", ["010", "yes", "1.10", "2026-01-01", "12", "1e5"])
def test_text_on_the_command_line_stays_as_it_is_written(word: str) -> None:
    assert config.load(Recipe, None, [f"name={word}"]).name == word


def test_yes_and_no_are_labels_as_the_table_has_them(tmp_path: Path) -> None:
    (tmp_path / "set.yaml").write_text(
        "groups: [{name: a, labels: [no, Yes, 01]}, {name: b, map: {yes: on, no: off}}]\n"
    )
    first, second = config.load(ShardRecipe, tmp_path / "set.yaml").groups
    assert first.labels == ["no", "Yes", "01"]
    assert second.map == {"yes": "on", "no": "off"}
    (tmp_path / "again.yaml").write_text(
        config.dump(config.load(ShardRecipe, tmp_path / "set.yaml"))
    )
    assert config.load(ShardRecipe, tmp_path / "again.yaml").groups == [first, second]


@pytest.mark.parametrize(("word", "value"), [("no", False), ("On", True), ("false", False)])
def test_a_key_that_is_true_or_false_may_be_yes_or_no(word: str, value: bool) -> None:
    assert config.load(ShardRecipe, None, [f"sex={word}"]).sex is value


def test_one_key_may_refer_to_another_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "title: run ${name}, seed ${seed}\nseed: ${evaluate.folds}\nname: x\n"
        "phases: [{epochs: '${evaluate.folds}'}]\n"
    )
    recipe = config.load(Recipe, tmp_path / "run.yaml", ["evaluate.folds=7"])
    assert (recipe.title, recipe.seed, recipe.phases[0].epochs) == ("run x, seed 7", 7, 7)
    assert "${" not in config.dump(recipe)


def test_a_section_keeps_the_defaults_of_its_place() -> None:
    recipe = config.load(Recipe, None, ["optim.momentum.weight_decay=1"])
    assert recipe.optim.momentum == StageConfig(lr=1e-2, weight_decay=1.0)
    assert config.load(Recipe, None) == Recipe()


def test_the_environment_is_read_neither_into_a_recipe_nor_into_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hush")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("$SECRET/runs", "${SECRET}/runs"):
        assert str(config.expand(path)) == path
    assert config.expand("~/runs") == tmp_path / "runs"
    recipe = config.load(Recipe, None, ["runs_dir=$SECRET/runs", "title=$SECRET"])
    assert "hush" not in config.dump(recipe)
    with pytest.raises(InputError, match="no home folder"):
        config.expand("~nobody-of-this-name/runs")


def test_a_recipe_stored_by_the_first_release_loads() -> None:
    stored = Path(__file__).parents[1] / "formats" / "0.1.0" / "runs" / "run" / "recipe.yaml"
    recipe = config.load(Recipe, stored)
    assert (recipe.name, recipe.model.width, recipe.trainer.max_steps) == ("run", 8, 5)
    usual = OmegaConf.create(config.dump(Recipe()))  # of the keys that are newer
    whole = OmegaConf.merge(usual, config.read_yaml(stored))
    assert whole == OmegaConf.create(config.dump(recipe))


def test_a_recipe_composes_in_a_moment() -> None:
    """Sweeps compose hundreds; 9 ms when this was written."""
    start = time.process_time()
    for _ in range(10):
        config.load(Recipe, RECIPES / "scaling_simulated.yaml", ["model.width=64"])
    assert time.process_time() - start < 1.5


def test_a_small_recipe_does_not_unfold_to_gigabytes_by_its_references(tmp_path: Path) -> None:
    """Each reference repeats a text and the next one repeats those: what is repeated is short."""
    path = tmp_path / "run.yaml"
    repeated = "".join(
        f"  {key}: '{('${' + below + '}') * 6}'\n"
        for key, below in [("set", "title"), ("target", "evaluate.set")]
    )
    path.write_text(f"title: '{'x' * 10_000}'\nevaluate:\n{repeated}")
    assert len(config.load(Recipe, path).evaluate.target) == 36 * 10_000
    path.write_text(f"title: '{'x' * 10_001}'\nevaluate:\n{repeated}")
    with pytest.raises(InputError, match="line 1: a text longer than 10000 characters"):
        config.load(Recipe, path)
    with pytest.raises(InputError, match="a text longer than 10000 characters"):
        config.load(Recipe, None, [f"title={'x' * 10_001}"])


@pytest.mark.parametrize("schema", [Recipe, SweepRecipe])
@pytest.mark.parametrize("parts", [11, 400, 3000])
def test_an_override_has_no_key_without_end(schema: type, parts: int) -> None:
    first = "title" if schema is Recipe else "axes"
    with pytest.raises(InputError, match="a key of more than 10 parts"):
        config.load(schema, None, [f"{first}{'.a' * (parts - 1)}=1"])


def test_what_nests_as_deep_as_it_may_is_dumped_as_well() -> None:
    deepest = f"axes{'.a' * 9}={'[' * 49}{']' * 49}"
    assert config.dump(config.load(SweepRecipe, None, [deepest]))


@pytest.mark.parametrize("text", ["", "# only a comment"])
def test_an_empty_file_is_a_recipe_of_defaults(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert config.load(Recipe, tmp_path / "run.yaml").name == "run"


@pytest.mark.parametrize(
    "value", [None, True, 3, 1e-5, "x", "yes", "null", "a: b", "#", "", [None]]
)
def test_an_override_is_read_back_as_the_value_that_it_was_made_of(value: object) -> None:
    key, _, text = config.override("axes.title", value).partition("=")
    made = config.load(SweepRecipe, None, [f"{key}={text}"])
    assert made.axes == {"title": value}
