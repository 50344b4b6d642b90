"""What is left out around a step changes nothing of what it computes or stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.training import fit as run
from lcm_scale.training.hooks import OF_A_STEP, PlainStep, only_what_they_do
from lcm_scale.training.module import LCMModule
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "log.jsonl").open())
    return [line["loss"] for line in lines if line["event"] == "step"]


def as_lightning_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hook of every callback, in a profiler's context, and Lightning's own step."""
    monkeypatch.setattr(run, "step_plainly", lambda trainer: None)
    monkeypatch.setattr(run, "only_what_they_do", lambda module, callbacks: callbacks)
    monkeypatch.setattr(run, "Unprofiled", lambda: None)
    seed = torch.manual_seed

    def with_torchs(self: LCMModule, batch: Any, batch_idx: int) -> None:
        drawn = PLAIN_SEED(self, batch, batch_idx)
        state = torch.get_rng_state()
        seed(torch.initial_seed())
        assert torch.equal(torch.get_rng_state(), state)
        return drawn

    monkeypatch.setattr(LCMModule, "on_train_batch_start", with_torchs)


PLAIN_SEED = LCMModule.on_train_batch_start


@pytest.mark.parametrize("more", [[], ["trainer.accumulate=2", "optim.clip_norm=0.5"]])
def test_a_plain_step_is_lightnings_in_losses_weights_state_and_counts(
    more: list[str], recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    step = PlainStep.run
    monkeypatch.setattr(PlainStep, "run", lambda *a: taken.append(a[2]) or step(*a))
    ours = run.pretrain(recipe("name=ours", "trainer.precision=bf16-mixed", *more))
    assert taken
    as_lightning_does(monkeypatch)
    plain = run.pretrain(recipe("name=plain", "trainer.precision=bf16-mixed", *more))
    assert losses(ours) == losses(plain)
    a, b = (checkpoints.read_file(checkpoints.newest(f / "checkpoints")) for f in (ours, plain))
    for name, weight in a["state_dict"].items():
        assert torch.equal(weight, b["state_dict"][name]), name
    for left, right in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        assert left["param_groups"] == right["param_groups"]
        torch.testing.assert_close(left["state"], right["state"], rtol=0, atol=0)
    assert a["loops"] == b["loops"]
    assert a["global_step"] == b["global_step"] > 0


@pytest.mark.parametrize("stopped", [7, 10])  # 5 steps an epoch
def test_runs_that_were_begun_by_lightnings_steps_or_plain_ones_go_on_by_either(
    stopped: int, recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = losses(run.pretrain(recipe("name=whole")))
    assert len(whole) == 20
    loops = []
    for name, first, second in (("one", True, False), ("two", False, True), ("old", True, True)):
        for lightnings, more in ((first, [f"trainer.max_steps={stopped}"]), (second, [])):
            with monkeypatch.context() as patch:
                if lightnings:
                    as_lightning_does(patch)
                folder = run.pretrain(recipe(f"name={name}", *more))
        assert losses(folder) == whole
        loops.append(checkpoints.read_file(checkpoints.newest(folder / "checkpoints"))["loops"])
    assert loops[0] == loops[1] == loops[2]


def test_a_callback_is_asked_at_its_own_hooks_alone() -> None:
    class Quiet(L.Callback):
        pass

    class Asked(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None: ...

    quiet, asked = only_what_they_do(L.LightningModule(), [Quiet(), Asked()])
    assert quiet.on_train_batch_end is None and quiet.on_train_batch_start is None
    assert callable(asked.on_train_batch_end) and asked.on_train_batch_start is None
    assert all(getattr(asked, hook) is None for hook in OF_A_STEP)
    assert callable(quiet.on_train_epoch_end)
