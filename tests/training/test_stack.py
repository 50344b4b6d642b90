"""Runs that train together leave what each of them leaves alone, and go on either way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.data.sets import split_subjects
from lcm_scale.data.stream import open_edges
from lcm_scale.errors import InputError, Stopped
from lcm_scale.training import stack
from lcm_scale.training.fit import fit
from lcm_scale.training.prepare import PreparedRun, open_recipe, prepare_split
from lcm_scale.training.run_log import epochs_of, has_diverged, read_log
from lcm_scale.training.stack import check_stack, train_stack
from lcm_scale.weights import checkpoints

NOT_COMPARED = {"time": 0, "of": 0}  # `trainer.max_steps` says how many steps there will be
Make = Callable[..., Recipe]
USUAL = ("data.validation=0.2", "model.dropout=0.1", "optim.clip_norm=1.0", "optim.schedule=cosine")
LONGER = "phases=[{name: momentum, epochs: 2, stage: momentum}, {name: adaptive, epochs: 3, readout: adaptive}]"


def runs(recipe: Recipe, folder: str, sizes: tuple[int, ...] = (0, 0, 8)) -> list[PreparedRun]:
    """Of other seeds and people: each leaves out some of its training scans."""
    opened = open_recipe(recipe)
    made = []
    for number, fewer in enumerate(sizes):
        seed = recipe.seed + 10 * number
        train, validation = split_subjects(opened.sets, opened.sets.scans_of([]), 0.2, seed)
        own = replace(recipe, name=f"{recipe.name}/{number}", seed=seed)
        where = Path(recipe.runs_dir) / folder / str(number)
        made.append(
            prepare_split(opened, own, where, train[: len(train) - fewer], validation, str(number))
        )
    return made


@pytest.fixture(scope="module")
def alone(recipe_into: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs when each was trained alone."""
    made = runs(recipe_into(tmp_path_factory.mktemp("alone"), *USUAL, LONGER), "alone")
    for run in made:
        fit(run)
    return made[0].folder.parent


def newest(folder: Path) -> dict[str, Any]:
    file = checkpoints.newest(folder / "checkpoints")
    assert file is not None
    return read(file)


def read(file: Path) -> dict[str, Any]:
    """A checkpoint without the recipe, which says where the run lies."""
    saved = checkpoints.read_file(file)
    return saved | {"lcm": saved["lcm"] | {"recipe": ""}}


def assert_alike(found: Any, expected: Any, where: str = "") -> None:
    """Nested values, numbers to fp32 tolerance; versions of nothing differ."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_alike(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_alike(one, other, f"{where}[{number}]")
    elif isinstance(expected, torch.Tensor):
        if where.endswith("attention.in_proj_bias"):
            # The key bias moves no output: its gradient is rounding, of which Adam makes steps.
            found, expected = (torch.cat([x.chunk(3)[0], x.chunk(3)[2]]) for x in (found, expected))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5, equal_nan=True, msg=where)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True), where
    else:
        assert found == expected, where


def assert_same_run(found: Path, expected: Path) -> None:
    """Losses of every step and epoch, the epoch that was chosen, weights, optimiser state, counts
    of Lightning's loops, and the files that are there."""
    names = [sorted(str(p.relative_to(f)) for p in f.rglob("*")) for f in (found, expected)]
    assert names[0] == names[1]
    steps = [
        [e for e in read_log(f / "log.jsonl") if e["event"] == "step"] for f in (found, expected)
    ]
    for one, other in zip(*steps, strict=True):
        assert_alike(one | NOT_COMPARED, other | NOT_COMPARED, "step")
    epochs = [epochs_of(f / "log.jsonl") for f in (found, expected)]
    for one, other in zip(*epochs, strict=True):
        kept = [key for key in other if "loss" in key or key in ("epoch", "step", "phase", "lr")]
        assert_alike({k: one[k] for k in kept}, {k: other[k] for k in kept}, "epoch")
    assert_alike(newest(found), newest(expected))
    best = [read(f / checkpoints.BEST) for f in (found / "checkpoints", expected / "checkpoints")]
    assert_alike(*best)


def test_runs_together_are_the_runs_alone(recipe: Make, alone: Path) -> None:
    """Through a change of phase, with dropout and clipping; one has fewer scans and a step less an
    epoch."""
    made = recipe(*USUAL, LONGER)
    train_stack(together := runs(made, "together"), "three")
    assert {len(set(run.epoch_steps)) for run in together} == {1}
    assert len({run.epoch_steps for run in together}) == 2
    for run in together:
        assert_same_run(run.folder, alone / run.folder.name)


def test_runs_go_on_together_from_wherever_each_stands_and_alone_from_where_they_stood_together(
    recipe: Make, alone: Path
) -> None:
    """One begun alone and stopped in an epoch, one at an epoch's end, one not begun; then stopped
    together in the middle of an epoch; then two of them together, and one alone."""
    made = recipe(*USUAL, LONGER)

    def parts(steps: int | None) -> list[PreparedRun]:
        config = replace(made, trainer=replace(made.trainer, max_steps=steps))
        return runs(config, "parts")

    fit(parts(6)[0])
    fit(parts(4)[1])
    train_stack(parts(10), "to step 10")
    assert [run.done for run in parts(None)] == [10, 10, 10]
    *two, last = parts(None)
    train_stack(two, "two")
    fit(last)
    for run in parts(None):
        assert_same_run(run.folder, alone / run.folder.name)
        resumed = (run.folder / "log.jsonl").read_text().count('"event": "resumed"')
        assert resumed == (2 if run.folder.name != "2" else 1)


def test_a_signal_saves_all_after_one_step_and_the_same_call_goes_on(
    recipe: Make, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(*USUAL, LONGER)
    step, taken = stack._Group.step, []

    def with_signal(group: Any, batches: Any) -> torch.Tensor:
        taken.append(1)
        if len(taken) == 6:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(group, batches)

    first = runs(made, "ended")
    with monkeypatch.context() as patch:
        patch.setattr(stack._Group, "step", with_signal)
        with pytest.raises(Stopped, match="2 beside it"):
            train_stack(first, "ended")
    # Epochs of 4, 4 and 3 steps: the third model sat out the fourth.
    assert [run.done for run in runs(made, "ended")] == [6, 6, 5]
    train_stack(runs(made, "ended"), "ended")
    for run in runs(made, "ended"):
        assert_same_run(run.folder, alone / run.folder.name)


def test_pseudo_labels_and_each_targets_best_epoch_are_each_models_own(recipe: Make) -> None:
    made = recipe(
        *USUAL,
        "phases=[{name: labelled, epochs: 2}, {name: filled, epochs: 1, pseudo_labels: true}]",
    )
    first, second = (
        [replace(run, by_target=True) for run in runs(made, folder, (0, 0))]
        for folder in ("alone", "together")
    )
    for run in first:
        fit(run)
    train_stack(second, "together")
    for run in second:
        assert_same_run(run.folder, run.folder.parents[1] / "alone" / run.folder.name)
        assert (run.folder / "checkpoints" / "best-target-0.ckpt").is_file()


def test_one_that_diverges_is_named_and_the_others_keep_what_they_saved(recipe: Make) -> None:
    made = runs(recipe(*USUAL, LONGER), "wrong")
    wild = replace(made[1].recipe.optim.adaptive, lr=1e30)
    own = replace(made[1].recipe, optim=replace(made[1].recipe.optim, adaptive=wild))
    made[1] = replace(made[1], recipe=own)
    with pytest.raises(InputError, match=r"wrong/1: the loss is .* at step 1[0-9] .*step-00000008"):
        train_stack(made, "wrong")
    assert has_diverged(made[1].folder / "log.jsonl")
    assert not has_diverged(made[0].folder / "log.jsonl")
    state = newest(made[0].folder)["state_dict"]
    assert all(bool(torch.isfinite(value).all()) for value in state.values())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["trainer.devices=2"], "trainer.devices=2"),
        (["trainer.strategy=zero2"], "trainer.strategy=zero2"),
        (["trainer.accumulate=2"], "trainer.accumulate=2"),
        (["optim.trainable=lora"], "optim.trainable=lora"),
        (["trainer.compile=true"], "trainer.compile=true"),
        (["trainer.cuda_graph=true"], "trainer.cuda_graph=true"),
        (["trainer.checkpoint_layers=true"], "trainer.checkpoint_layers=true"),
        (["trainer.loggers=[csv, wandb]"], "trainer.loggers=wandb"),
        (["data.resident_gb=1e-9"], "data.resident_gb=1e-09"),
    ],
)
def test_what_excludes_it_is_named(words: list[str], named: str, recipe: Make) -> None:
    (run,) = runs(recipe(*USUAL), "one", (0,))
    made = recipe(*USUAL, *words)
    source = open_edges(run.opened.sets, made.data.resident_gb)
    opened = replace(run.opened, source=source)
    way = replace(run.choice.way, strategy=made.trainer.strategy)
    way = replace(way, checkpoint_layers=made.trainer.checkpoint_layers)
    choice = replace(run.choice, placement=replace(run.choice.placement, way=way))
    with pytest.raises(InputError, match=f"^--together: .*{named} excludes"):
        check_stack(replace(run, recipe=made, opened=opened, choice=choice), "--together")


def test_runs_of_other_shapes_are_no_stack(recipe: Make) -> None:
    mixed = [runs(recipe(*USUAL, f"model.width={w}"), f"width-{w}")[0] for w in (16, 32)]
    with pytest.raises(ValueError, match="one model"):
        train_stack(mixed, "mixed")
