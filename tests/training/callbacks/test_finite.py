"""A run ends at its first loss that is no number, and what it has saved until then stays good."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lcm_scale.cli import app as cli
from lcm_scale.config import Recipe, dump
from lcm_scale.errors import Diverged, InputError
from lcm_scale.training import fit as run
from lcm_scale.training.folder import run_folder
from lcm_scale.training.run_log import epochs_of, read_log
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]
# 33 scans in batches of 8 are 5 steps an epoch; the momentum phase ends with step 10.
TOO_FAST = "optim.adaptive.lr=1e30"


def saved(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "checkpoints").glob("*"))


def steps(folder: Path) -> list[int]:
    return [event["step"] for event in read_log(folder / "log.jsonl") if event["event"] == "step"]


def test_the_first_loss_that_is_no_number_ends_the_run_and_names_step_and_rate(
    recipe: Make,
) -> None:
    made = recipe(TOO_FAST, "trainer.keep_checkpoints=1")
    with pytest.raises(Diverged) as caught:
        run.pretrain(made)
    folder = run_folder(made)
    assert str(caught.value) == (
        f"{folder}: the loss is nan at step 12 (all targets, phase adaptive, optim.adaptive.lr "
        "1e+30); step-00000010.ckpt is kept; lower optim.adaptive.lr or set optim.clip_norm"
    )
    assert saved(folder) == ["step-00000010.ckpt"]
    assert not checkpoints.unsound(folder / "checkpoints" / "step-00000010.ckpt")
    assert steps(folder) == list(range(1, 12))
    assert read_log(folder / "log.jsonl")[-1]["event"] == "diverged"


def test_it_goes_on_from_its_last_finite_checkpoint_with_a_lower_rate(recipe: Make) -> None:
    for _ in range(2):  # the same command comes to the same end, and spoils nothing
        with pytest.raises(Diverged, match=r"at step 12 .*step-00000010\.ckpt is kept"):
            run.pretrain(recipe(TOO_FAST))
    with pytest.raises(InputError, match=r"another recipe \(model\.width differ"):
        run.pretrain(recipe("model.width=8"))
    folder = run.pretrain(recipe("optim.adaptive.lr=1e-3", "optim.clip_norm=1.0"))
    assert steps(folder) == list(range(1, 21))
    events = read_log(folder / "log.jsonl")
    changed = {"optim.adaptive.lr": [1e30, 1e-3], "optim.clip_norm": [None, 1.0]}
    assert [event["changed"] for event in events if event["event"] == "recipe"] == [changed]
    assert [event["step"] for event in events if event["event"] == "resumed"] == [10, 10]
    assert [row["epoch"] for row in epochs_of(folder / "log.jsonl")] == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"another recipe \(optim\.adaptive\.lr"):
        run.pretrain(recipe("optim.adaptive.lr=1e-4", "optim.clip_norm=1.0"))


def test_the_target_whose_loss_it_is_is_named(recipe: Make) -> None:
    with pytest.raises(Diverged, match=r"the loss is inf at step 1 \(target age, .*no checkpoint"):
        run.pretrain(recipe("objective.weights={age: 1e39}"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # The first step's own loss is finite, its step is not.
        (["optim.momentum.lr=1e39"], r"ckpt: not written: model\.\S+ holds numbers that are not"),
        # Averages of squares overflow, and with them no parameter would ever move again.
        (
            ["objective.weights={sex: 1e25}", "phases=[{name: a, epochs: 1}]"],
            r"not written: exp_avg_sq of parameter \d+ holds numbers that are not finite",
        ),
    ],
)
def test_weights_that_overflow_under_a_finite_loss_are_not_saved(
    changes: list[str], message: str, recipe: Make
) -> None:
    made = recipe(*changes, "trainer.checkpoint_steps=1")
    with pytest.raises(Diverged, match=message):
        run.pretrain(made)
    assert saved(run_folder(made)) == []


def test_a_validation_loss_that_is_no_number_ends_the_run_too(recipe: Make) -> None:
    made = recipe(TOO_FAST, "phases=[{name: a, epochs: 2}]", "trainer.global_batch=64")
    with pytest.raises(Diverged, match=r"the validation loss is nan at step 1 \(all targets"):
        run.pretrain(made)
    assert saved(run_folder(made)) == []


def test_the_command_line_says_it_in_one_line_and_exits_2(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (tmp_path / "run.yaml").write_text(dump(recipe(TOO_FAST, "phases=[{name: a}]")))
    monkeypatch.setattr(sys, "argv", ["lcm-scale", "pretrain", str(tmp_path / "run.yaml")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        err.splitlines()[-1]
    ]


def test_extremes_find_every_number_that_is_none() -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        for kind in (torch.float32, torch.bfloat16, torch.float16):
            value = torch.ones(3, 5, dtype=kind)
            assert not checkpoints.not_finite({"a": value, "empty": value[:0]})
            value[1, 2] = bad
            found = checkpoints.not_finite({"n": torch.tensor(3), "a": value})
            assert found == "a holds numbers that are not finite"
