"""What Lightning does around every step that nobody here asked for, left out.

At each of a step's six hooks it calls every callback, most of which do nothing there, each call in
a context for its profiler, which does nothing either; around them it looks for validation, loggers
and schedulers of learning rates that we keep out of it (`fit.OURS`); and between forward pass and
optimiser lie twelve of its functions. A step of a small model takes 12 milliseconds: that was a
tenth of it (benchmarks/step.py). What a step computes, in which order, is the same, and so are the
counters of its loops, which a checkpoint holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim import Optimizer

from lcm_scale.training.module import LCMModule

# The hooks that Lightning calls at every batch or step.
OF_A_BATCH = ("on_train_batch_start", "on_train_batch_end")
OF_A_STEP = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
_NOTHING = nullcontext()


class Unprofiled(PassThroughProfiler):
    """Lightning's default, without making a context each time."""

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        return _NOTHING


def only_what_they_do(
    module: L.LightningModule, callbacks: Iterable[L.Callback]
) -> list[L.Callback]:
    """The callbacks, each of which is asked at those hooks of a step alone that are its own; the
    same of the module. Lightning passes over what cannot be called."""
    made = list(callbacks)
    for one, empty in ((module, L.LightningModule), *((callback, L.Callback) for callback in made)):
        for hook in (*OF_A_BATCH, *OF_A_STEP):
            if getattr(type(one), hook) is getattr(empty, hook):
                setattr(one, hook, None)
    return made


class PlainStep(_AutomaticOptimization):
    """Lightning's step of one optimiser on one device, without what it calls in between: the hooks
    of `OF_A_STEP`, and `optimizer_step` and its like of module, strategy and precision. Its
    counters are kept as it keeps them: they are what a checkpoint holds."""

    def run(self, optimizer: Optimizer, batch_idx: int, kwargs: Any) -> dict[str, Any]:
        counts, parts = self.optim_progress.optimizer, self.trainer.accumulate_grad_batches
        first, last = batch_idx % parts == 0, (batch_idx + 1) % parts == 0
        if first:
            counts.zero_grad.increment_ready()
            counts.zero_grad.increment_started()
        loss = self.compute(optimizer, kwargs, first, last)
        if first:
            counts.zero_grad.increment_completed()
        if last:
            counts.step.increment_ready()
            counts.step.increment_completed()
        return {"loss": loss.detach()}

    def compute(self, optimizer: Any, kwargs: Any, first: bool, last: bool) -> Tensor:
        """A micro-batch, a step's first or last one or neither.  Returns: its part of the loss."""
        trainer = self.trainer
        module: LCMModule = trainer.lightning_module  # type: ignore[assignment]
        with trainer.precision_plugin.forward_context():
            loss = module.training_step(*kwargs.values())
        if trainer.accumulate_grad_batches > 1:
            loss = loss / trainer.accumulate_grad_batches
        if first:
            optimizer.zero_grad()
        loss.backward()
        if last:
            if trainer.gradient_clip_val:
                parameters = trainer.precision_plugin.main_params(optimizer)
                torch.nn.utils.clip_grad_norm_(parameters, trainer.gradient_clip_val)
            self.update(optimizer)
        return loss

    def update(self, optimizer: Any) -> None:
        optimizer.step()


class PlainEpoch(_TrainingEpochLoop):
    """Lightning's loop over an epoch's batches on one device, for a run that validates, logs and
    sets its rates by callbacks alone, whose `PlainStep`s it takes."""

    def __init__(self, trainer: L.Trainer, min_steps: int | None, max_steps: int) -> None:
        super().__init__(trainer, min_steps, max_steps)
        self.automatic_optimization = PlainStep(trainer)

    def on_run_start(self, data_fetcher: Any) -> None:
        super().on_run_start(data_fetcher)
        self.val_loop.restarting = False
        asked = (
            [getattr(callback, hook) for callback in self.trainer.callbacks]  # type: ignore[attr-defined]
            for hook in OF_A_BATCH
        )
        self.before, self.after = ([hook for hook in hooks if hook] for hooks in asked)

    def advance(self, data_fetcher: Any) -> None:
        trainer, counts = self.trainer, self.batch_progress
        module: LCMModule = trainer.lightning_module  # type: ignore[assignment]
        batch, _, _ = next(data_fetcher)
        number = self.batch_idx + 1
        counts.is_last_batch = data_fetcher.done
        device = trainer.strategy.root_device
        if device.type != "cpu":
            batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        counts.increment_ready()
        for hook in self.before:
            hook(trainer, module, batch, number)
        module.on_train_batch_start(batch, number)
        counts.increment_started()
        taken = OrderedDict(batch=batch, batch_idx=number)
        outputs = self.automatic_optimization.run(trainer.optimizers[0], number, taken)
        counts.increment_processed()
        for hook in self.after:
            hook(trainer, module, outputs, batch, number)
        counts.increment_completed()

    def on_advance_end(self, data_fetcher: Any) -> None:
        if (self.batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            self._batches_that_stepped += 1


def step_plainly(trainer: L.Trainer) -> None:
    """Let a trainer of one device go through its epochs by `PlainEpoch`; others, whose strategies
    have a part in each step, stay as they are."""
    alone = type(trainer.strategy) is SingleDeviceStrategy
    if alone and type(trainer.precision_plugin) in (Precision, MixedPrecision):
        loop = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = PlainEpoch(trainer, loop.min_steps, loop.max_steps)
