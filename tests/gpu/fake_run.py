"""Real runs whose device is the fake GPU of benchmarks/fake_gpu.py: Lightning, our callbacks, the
training step, clipping and the optimiser. First a line with the ways to wait for the device that
would not be seen, then a line of JSON a run: launches of each step, shapes of its batch.

    python tests/gpu/fake_run.py < recipes.json     # [[override, ...], ...]

The override `rate by number` lets the kernels take the rate from the host again.

Host waits raise, but for the one that a step ends with (`StepEnd`), which goes through the
strategy's `reduce` and is counted there. Numbers do not exist, so nothing is saved or validated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loops import fit_loop
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import fake_gpu

from lcm_scale import config
from lcm_scale.config import Recipe
from lcm_scale.data.module import ConnectomeData
from lcm_scale.training import fit, optimizer
from lcm_scale.training.callbacks.finite import Finite
from lcm_scale.training.callbacks.log import Log
from lcm_scale.training.callbacks.meter import Meter
from lcm_scale.training.callbacks.phase import PhaseSwitch, two_stage
from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.callbacks.validate import Validate
from lcm_scale.training.prepare import prepare
from lcm_scale.training.signals import StopFlag
from lcm_scale.training.together import Together

BY_NUMBER = "rate by number"


class FakeGPU(SingleDeviceStrategy):
    """What is on the device is fake, what is on the host is real."""

    def __init__(self, precision: MixedPrecision | None) -> None:
        device = torch.device(fake_gpu.NAME, 0)
        super().__init__(device=device, accelerator="cpu", precision_plugin=precision)
        self.mode, self.recorder = FakeTensorMode(allow_non_fake_inputs=True), fake_gpu.Recorder()
        self.reads, self.active = 0, False
        self.steps: list[dict[str, Any]] = []
        self.before: list[str] = []  # what the last step asked for
        self.changed: list[list[str] | None] = []  # a step's first operator that was another before
        self.from_host: list[list[str]] = []  # its operators that read the host's memory
        self.shapes: list[dict[str, list[int]]] = []

    def setup_environment(self) -> None:
        pass  # there is no accelerator to set up

    def teardown(self) -> None:
        pass  # nothing comes back to the host

    def model_to_device(self) -> None:
        assert self.model is not None
        fake_gpu.move(self.model, self.mode)

    def batch_to_device(self, batch: Any, device: Any = None, dataloader_idx: int = 0) -> Any:
        self.shapes.append({name: list(value.shape) for name, value in batch.items()})
        with self.mode:
            made = {
                name: torch.empty(value.shape, dtype=value.dtype, device=self.root_device)
                for name, value in batch.items()
            }
        for name, value in made.items():
            self.recorder.stay(name, value)
        return made

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Once, also where a step's closure calls the others."""
        if self.active:
            yield
            return
        self.active = True
        with self.mode, self.recorder:
            yield
        self.active = False

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        fake_gpu.CASTS.clear()
        self.recorder.part = "forward"
        with self.on_device():
            return super().training_step(*args, **kwargs)

    def backward(self, *args: Any, **kwargs: Any) -> Any:
        self.recorder.part = "backward"
        with self.on_device():
            return super().backward(*args, **kwargs)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> Any:
        # Its closure is forward and backward; what comes after them is clipping and the update.
        with self.on_device():
            return super().optimizer_step(*args, **kwargs)

    def read(self) -> None:
        """The numbers that a step ends with: read once, by the host."""
        self.reads += 1
        parts = ("forward", "backward", "optimiser", "end")
        self.steps.append({part: self.recorder.of(part) for part in parts} | {"reads": self.reads})
        asked = [line for part, line in self.recorder.asked if part in parts[:3]]
        self.changed.append(
            next(([a, b] for a, b in zip_longest(self.before, asked) if a != b), None)
        )
        self.from_host.append([line for line in asked if "cpu" in line])
        self.before = asked
        self.recorder.next_step()
        self.reads = 0


class End(StepEnd):
    """The real one, on the device that has no numbers."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        strategy = cast(FakeGPU, trainer.strategy)
        strategy.recorder.part = "end"
        with strategy.on_device():
            super().on_train_batch_end(trainer, *args, **kwargs)

    def agreed(self, trainer: L.Trainer, loss: torch.Tensor, told: list[float]) -> list[float]:
        cast(FakeGPU, trainer.strategy).read()
        return [0.0, *told]


class Part(L.Callback):
    """Says where the update begins, and what of it is the host's."""

    def __init__(self, strategy: FakeGPU) -> None:
        self.strategy = strategy

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        own = two_stage(trainer)
        send, recorder = own.send, self.strategy.recorder

        def apart() -> None:
            recorder.part = "sent"
            send()
            recorder.part = "optimiser"

        own.send = apart  # type: ignore[method-assign]

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.strategy.recorder.part = "optimiser"


def pseudo_labels(data: ConnectomeData) -> None:
    """As a phase's start gives them: some of the missing ones."""
    shape = (len(data.train), len(data.sets.vocabulary.targets))
    given = np.zeros(shape, dtype=np.float32)
    given[::2] = 0.4
    data.set_pseudo_labels(data.train, np.zeros(shape, dtype=np.float32), given)


def run(recipe: Recipe) -> dict[str, Any]:
    prepared = prepare(recipe)
    prepared.folder.mkdir(parents=True)
    data, flag, together = fit.batches_of(prepared), StopFlag(), Together()
    module = fit.start_module(prepared, data)
    if any(phase.pseudo_labels for phase in prepared.opened.phases):
        pseudo_labels(data)
    step, meter = End(data, flag, together), Meter(data)
    meter.peak = 1.0  # else it measures the device
    validation = Validate(data, step)
    log = Log(prepared.folder, None, together, lambda *_, **__: None, step, validation, meter)
    narrow = recipe.trainer.precision == "bf16-mixed"
    strategy = FakeGPU(MixedPrecision("bf16-mixed", fake_gpu.NAME) if narrow else None)
    trainer = L.Trainer(
        strategy=strategy,
        max_epochs=len(prepared.epoch_steps),
        gradient_clip_val=recipe.optim.clip_norm,
        accumulate_grad_batches=recipe.trainer.accumulate,
        callbacks=[
            Part(strategy),
            PhaseSwitch(),
            step,
            Finite(prepared.folder, step, validation),
            log,
            meter,
        ],
        **fit.OURS,
    )
    trainer.fit(module, datamodule=data)
    phases = [
        prepared.opened.phases[
            next(i for i, p in enumerate(prepared.opened.phases) if epoch < p.end_epoch)
        ].name
        for epoch, steps in enumerate(prepared.epoch_steps)
        for _ in range(steps)
    ]
    return {
        "steps": strategy.steps,
        "phases": phases,
        "shapes": strategy.shapes,
        "changed": strategy.changed,
        "from_host": strategy.from_host,
    }


def not_seen() -> list[str]:
    """Ways to wait for the device which the recorder does not see."""
    ways = {
        "item": lambda x: x.sum().item(),
        "float": lambda x: float(x[0]),
        "if": lambda x: bool(x[0] > 0),
        "tolist": lambda x: x.tolist(),
        "nonzero": lambda x: x.nonzero(),
        "where": lambda x: torch.where(x > 0),
        "mask": lambda x: x[x > 0],
        "masked_select": lambda x: x.masked_select(x > 0),
        "unique": lambda x: x.unique(),
        "cpu": lambda x: x.cpu(),
        "copy": lambda x: torch.zeros(4).copy_(x),
        "equal": lambda x: torch.equal(x, x),
        "repeats": lambda x: x.repeat_interleave(x.long()),
    }
    seen = []
    for name, way in ways.items():
        with FakeTensorMode(), fake_gpu.Recorder():
            try:
                way(torch.rand(4, device=fake_gpu.NAME))
            except fake_gpu.HostWaits:
                seen.append(name)
    return sorted(set(ways) - set(seen))


def main() -> None:
    fake_gpu.install()
    # A device that is none has no generator.
    optimizer.torch.Generator = lambda device: torch._C.Generator("cpu")  # type: ignore[attr-defined]
    optimizer._noise = lambda size, device, source: torch.zeros(  # type: ignore[assignment]
        size, dtype=torch.int32, device=device
    )
    print(json.dumps(not_seen()), flush=True)
    # Once an epoch Lightning adds up the loaders' lengths on the device: no step's business.
    fit_loop.has_len_all_ranks = lambda *_: True  # type: ignore[attr-defined]
    for overrides in json.load(sys.stdin):
        asked = [word for word in overrides if word != BY_NUMBER]
        optimizer.BY_NUMBER = {"cpu"} if asked == overrides else {"cpu", fake_gpu.NAME}
        print(json.dumps(run(config.load(Recipe, None, asked))), flush=True)


if __name__ == "__main__":
    main()
