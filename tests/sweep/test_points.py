"""From axes to points: names, sizes, ties, and the mistakes that people make in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.errors import InputError
from lcm_scale.sweep.plan import Plan
from lcm_scale.sweep.points import Sweep, open_sweep

Make = Callable[..., Plan]


def sweep(tmp_path: Path, text: str, *overrides: str) -> Sweep:
    (tmp_path / "run.yaml").write_text("name: run\nevaluate: {folds: 5}\n")
    (tmp_path / "sweep_x.yaml").write_text(
        "recipe: run\n" + ("" if "baselines" in text else "baselines: []\n") + text
    )
    return open_sweep(tmp_path / "sweep_x.yaml", overrides)


def names(of: Sweep) -> list[str]:
    return [p.name for p in of.points]


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    made = sweep(tmp_path, "axes: {size: [tiny, 147m], subjects: [50, 0], epochs: [4]}")
    assert names(made) == ["tiny-u50-e4", "tiny-uall-e4", "147m-u50-e4", "147m-uall-e4"]


def test_a_mapping_ties_keys_together(tmp_path: Path) -> None:
    made = sweep(
        tmp_path, "axes: {size: [{size: 48x2, lr: 4.0e-3}, {size: 96x2, lr: 3.0e-3}], seed: [0]}"
    )
    assert names(made) == ["48x2-lr0.004-s0", "96x2-lr0.003-s0"]
    assert made.recipe_of(made.points[1]).optim.adaptive.lr == 0.003


def test_any_key_of_the_run_recipe_is_an_axis(tmp_path: Path) -> None:
    made = sweep(tmp_path, "axes: {}", "axes.model.dropout=[0.1,0.2]")
    assert [made.recipe_of(p).model.dropout for p in made.points] == [0.1, 0.2]


def test_values_reach_the_run_recipe_as_they_stand(tmp_path: Path) -> None:
    """Nothing, a flag and text that YAML would take for a number among them."""
    values = 'axes: {init_from: [null, runs/x, "1.10"], trainer.compile: [true]}'
    made = sweep(tmp_path, values)
    assert [made.recipe_of(p).init_from for p in made.points] == [None, "runs/x", "1.10"]
    assert all(made.recipe_of(p).trainer.compile is True for p in made.points)
    assert names(made)[0] == "init_from_null-compile_True"


def test_two_points_never_share_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"two points would lie in one folder, init_from_runs_a: "):
        sweep(tmp_path, "axes: {init_from: [runs/a, runs_a]}")


def test_a_command_line_adds_to_the_sweeps_own_overrides(tmp_path: Path) -> None:
    made = sweep(
        tmp_path,
        "axes: {seed: [0]}\noverrides: [model.dropout=0.3]",
        "set=[data=mine]",
        "shards_dir=elsewhere",
    )
    recipe = made.recipe_of(made.points[0])
    assert (recipe.model.dropout, recipe.data.sets, recipe.data.shards_dir) == (
        0.3,
        ["mine"],
        "elsewhere",
    )


def test_width_by_layers_is_a_size(tmp_path: Path) -> None:
    model = (
        sweep(tmp_path, "axes: {size: [256x4]}")
        .recipe_of(sweep(tmp_path, "axes: {size: [256x4]}").points[0])
        .model
    )
    assert (model.width, model.layers, model.heads, model.ffn) == (256, 4, 8, 256)


def test_a_point_that_stands_twice_runs_once(tmp_path: Path) -> None:
    text = "axes: {size: [tiny], seed: [0]}\nalso: [{size: [tiny], seed: [0, 1], draw: [0]}]"
    assert names(sweep(tmp_path, text)) == ["tiny-s0", "tiny-d0-s1"]


def test_names_do_not_change_when_axes_grow(tmp_path: Path) -> None:
    before = names(sweep(tmp_path, "axes: {size: [tiny], epochs: [4]}"))
    assert before[0] in names(sweep(tmp_path, "axes: {epochs: [2, 4, 8], size: [small, tiny]}"))


def test_a_baseline_is_run_once_for_the_same_people(tmp_path: Path) -> None:
    made = sweep(
        tmp_path,
        "axes: {size: [tiny, small], epochs: [2, 4], subjects: [10, 20]}",
        "baselines=[linear]",
    )
    assert [p.name for p in made.points if p.is_baseline] == [
        "linear-u10-s0-f1",
        "linear-u20-s0-f1",
    ]


def test_iso_flop_slices_take_the_epochs_that_cost_the_same(tmp_path: Path) -> None:
    text = "design: isoflop\nflops: [1.0e12]\naxes: {size: [64x2, 256x4], subjects: [1000]}"
    small, large = sweep(tmp_path, text).points
    assert small.epochs > 5 * large.epochs >= 5


def test_an_iso_flop_point_without_one_whole_epoch_is_left_out_by_name(tmp_path: Path) -> None:
    text = "design: isoflop\nflops: [1.0e12]\naxes: {size: [64x2, 147m], subjects: [1000]}"
    made = sweep(tmp_path, text)
    assert len(made.points) == 1
    assert made.left_out[0][0].startswith("147m-u1000")
    assert "one epoch costs" in made.left_out[0][1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("axes: {optim.adaptive.lrr: [1]}", "unknown key 'optim.adaptive.lrr', did you mean 'lr'"),
        ("axis: {seed: [1]}", "unknown key 'axis', did you mean 'axes'"),
        ("axes: {size: [147mm]}", "size '147mm', did you mean '147m'"),
        ("axes: {size: [65x2]}", "a multiple of its 4 heads"),
        ("axes: {seed: 3}", "axes.seed: expected a list"),
        ("axes: {}", "no point to run: axes is empty"),
        ("axes: {subjects: [many]}", "whole numbers"),
        ("axes: {fold: [9]}", "not one of the 5 folds"),
        ("axes: {label_share: [1.5]}", "label_share lies in (0, 1]"),
        ("axes: {seed: [0]}\nbaselines: [lienar]", "did you mean 'linear'"),
        ("axes: {seed: [0]}\ndesign: gird", "did you mean 'grid'"),
        ("axes: {evaluate.harmonise: [combat]}", "a sweep takes its scans as they are"),
        ("axes: {evaluate.protocol: [external]}", "a sweep's folds are nested"),
        ("axes: {evaluate.group: [family]}", "evaluate.group: a sweep does not know it"),
        ("design: isoflop\naxes: {size: [tiny]}", "needs flops"),
        ("design: isoflop\nflops: [1.0e12]\naxes: {epochs: [2]}", "the epochs follow from flops"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_line(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        sweep(tmp_path, text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_run_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweep_x.yaml").write_text("recipe: nowhere\naxes: {seed: [0]}\n")
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such recipe"):
        open_sweep(tmp_path / "sweep_x.yaml")
