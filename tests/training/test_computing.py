"""A run that goes on computes as it began, and says where it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.hardware import threads
from lcm_scale.training import computing
from lcm_scale.training import fit as run
from lcm_scale.training.folder import PROVENANCE

Make = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "granted", lambda: 2)
    computing._once.cache_clear()


def test_threads_are_said_and_kept_over_a_stop(
    recipe: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = "trainer.threads=null"
    folder = run.pretrain(recipe(free, "trainer.max_steps=2"))
    assert torch.get_num_threads() == 1
    assert "1 thread (usual below width 256; trainer.threads" in capsys.readouterr().err
    assert json.loads((folder / PROVENANCE).read_text())["computing"]["threads"] == 1
    monkeypatch.setattr(threads, "ONE_BELOW", 8)  # as if another release had another rule
    run.pretrain(recipe(free, "trainer.max_steps=3"))
    assert torch.get_num_threads() == 1
    assert "1 thread (as before it was stopped)" in capsys.readouterr().err
    run.pretrain(recipe("trainer.threads=2", "trainer.max_steps=4"))
    said = "2 threads (trainer.threads), 1 before: what follows may differ in rounding"
    assert said in capsys.readouterr().err
    torch.set_num_threads(1)


def test_a_recipe_that_says_it_is_told_nothing(
    recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    run.pretrain(recipe("trainer.threads=1", "trainer.max_steps=1"))
    assert "thread" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"computing": 3}', '{"computing": {"threads": "x"}}'])
def test_a_folder_that_does_not_say_it_is_as_a_new_run(text: str, recipe: Make) -> None:
    free = "trainer.threads=null"
    folder = run.pretrain(recipe(free, "trainer.max_steps=1"))
    (folder / PROVENANCE).write_text(text)
    run.pretrain(recipe(free, "trainer.max_steps=2"))
    assert json.loads((folder / PROVENANCE).read_text())["computing"]["threads"] == 1
