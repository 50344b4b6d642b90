"""Steps that are recorded once and launched anew give what plain steps give: shown on the CPU, by a
tape that keeps a step's operators with their arguments and memory as they were, as a CUDA graph
does. What a GPU's libraries allow while they are recorded, tests/gpu asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from lcm_scale.config import Recipe
from lcm_scale.model import batchnorm
from lcm_scale.training import fit as run
from lcm_scale.training import optimizer
from lcm_scale.training.graph import USUAL, step_by_graph
from lcm_scale.training.hooks import step_plainly
from lcm_scale.weights import checkpoints

Make = Callable[..., Recipe]


def tensors(*values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def as_now(value: Any) -> Any:
    """The same memory, seen as it is now."""
    return value.detach() if isinstance(value, Tensor) else value


class Tape(TorchDispatchMode):
    """Keeps operators; `put_back` undoes what they did while they were kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Any, Any]] = {}  # storages, what they held
        self.launches = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = tree_map(as_now, (args, kwargs or {}))
        for value in tensors(asked):
            storage = value.untyped_storage()
            self.before.setdefault(storage._cdata, (storage, storage.clone()))
        out = func(*args, **(kwargs or {}))
        for value in tensors(out):
            storage = value.untyped_storage()
            self.before.setdefault(storage._cdata, (storage, None))
        if torch.Tag.inplace_view not in func.tags:  # of those a graph has no kernel
            self.kept.append((func, *asked, tree_map(as_now, out)))
        return out

    def put_back(self) -> None:
        for storage, content in self.before.values():
            if content is not None:
                storage.copy_(content)

    @torch.no_grad()
    def launch(self) -> None:
        self.launches += 1
        for func, args, kwargs, out in self.kept:
            for old, new in zip(tensors(out), tensors(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class OnTape:
    def __init__(self) -> None:
        self.tapes: list[Tape] = []

    def aside(self) -> Any:
        return nullcontext()

    def record(
        self, step: Callable[[], None], generators: Iterable[torch.Generator]
    ) -> Callable[[], None]:
        sources = [torch.default_generator, *generators]
        states = [source.get_state() for source in sources]
        self.tapes.append(tape := Tape())
        with tape:
            step()
        tape.put_back()
        for source, state in zip(sources, states, strict=True):
            source.set_state(state)
        return tape.launch


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe], tuple[Path, list[Tape]]]:
    """A run by recorded steps."""

    def train(recipe: Recipe) -> tuple[Path, list[Tape]]:
        recording = OnTape()

        def both(trainer: L.Trainer) -> None:
            step_plainly(trainer)
            step_by_graph(trainer, recording)

        with monkeypatch.context() as patch:
            patch.setattr(run, "step_plainly", both)
            return run.pretrain(recipe), recording.tapes

    return train


@pytest.fixture(autouse=True)
def norms_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU alone the host looks whether a batch has padding, and goes one of two ways."""
    monkeypatch.setattr(batchnorm, "_is_plain", lambda *_: False)


@pytest.fixture
def rates_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(optimizer, "BY_NUMBER", set())


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "log.jsonl").open())
    return [line["loss"] for line in lines if line["event"] == "step"]


def same(ours: Path, plain: Path) -> None:
    assert losses(ours) == losses(plain)
    a, b = (checkpoints.read_file(checkpoints.newest(f / "checkpoints")) for f in (ours, plain))
    for name in ("state_dict", "optimizer_states", "global_step"):
        for left, right in zip(tree_leaves(a[name]), tree_leaves(b[name]), strict=True):
            assert torch.equal(left, right) if isinstance(left, Tensor) else left == right, name


@pytest.mark.usefixtures("rates_in_memory")
@pytest.mark.parametrize(
    "more",
    [
        ["model.attention=absorbed", "trainer.precision=bf16-mixed", "optim.clip_norm=0.5"],
        ["model.attention=projected", "optim.state=bf16", "model.edge_branch=true"],
    ],
)
def test_recorded_steps_give_the_plain_runs_losses_weights_and_state(
    more: list[str], recipe: Make, taped: Callable[..., Any]
) -> None:
    """Two phases, a rate that rises from step to step, dropout, a last batch that is padded."""
    more = [*more, "optim.warmup_steps=15", "model.dropout=0.2"]
    plain = run.pretrain(recipe("name=plain", *more))
    ours, tapes = taped(recipe("name=ours", *more))
    assert [tape.launches for tape in tapes] == [10 - USUAL] * 2
    same(ours, plain)


@pytest.mark.usefixtures("rates_in_memory")
def test_a_run_goes_on_by_recorded_steps_and_by_plain_ones(
    recipe: Make, taped: Callable[..., Any]
) -> None:
    whole = run.pretrain(recipe("name=whole"))
    for steps in (6, 13):
        folder, _ = taped(recipe("name=parts", f"trainer.max_steps={steps}"))
    assert losses(folder)[:13] == losses(whole)[:13]
    same(run.pretrain(recipe("name=parts")), whole)


def test_a_rate_that_is_a_number_stays_as_it_was_when_it_was_recorded(
    recipe: Make, taped: Callable[..., Any]
) -> None:
    """So the tape freezes what a graph does."""
    more = ["optim.warmup_steps=15"]
    plain = losses(run.pretrain(recipe("name=plain", *more)))
    ours = losses(taped(recipe("name=ours", *more))[0])
    first = next(n for n, (a, b) in enumerate(zip(ours, plain, strict=True)) if a != b)
    assert first == USUAL + 2  # the second recorded step has the first one's rate
