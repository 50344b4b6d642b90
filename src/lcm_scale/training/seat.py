"""One model of several that train as a stack, with all that a run alone has: its folder, batches,
optimiser and callbacks.

Its Lightning trainer never fits. It holds what the callbacks ask for, counts as Lightning's loop
would, and writes the checkpoints, so that what a seat leaves behind is what a run alone leaves:
either goes on where the other stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import torch

from lcm_scale.data.stream import Batch
from lcm_scale.errors import Diverged
from lcm_scale.lock import Lock
from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.callbacks.validate import Validate, row_of
from lcm_scale.training.computing import choose_threads, computed_before, say, written
from lcm_scale.training.fit import (
    batches_of,
    callbacks_of,
    forget_final,
    make_trainer,
    see_unmoved,
    start_module,
)
from lcm_scale.training.folder import write_head
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.signals import StopFlag, Watchdog
from lcm_scale.training.together import Together
from lcm_scale.weights import checkpoints


class Seat:
    """A model in training.

    Attributes:
        epoch: the one that is trained, or will be next.
        generator: of its dropout masks.
        taking: whether it takes part in the step at hand; its epoch may be shorter than others'.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        lock: Lock | None,
        flag: StopFlag,
        watchdog: Watchdog,
        advance: Callable[..., None],
    ) -> None:
        see_unmoved(prepared)
        before = computed_before(prepared)
        threads = choose_threads(prepared, before)
        say(prepared, threads, before)
        plan = prepared.choice.record(prepared.recipe.trainer)
        write_head(prepared.recipe, prepared.folder, plan=plan, **written(threads))
        forget_final(prepared.folder)
        self.prepared, self.data = prepared, batches_of(prepared)
        self.module = start_module(prepared, self.data)
        self.step = StepEnd(self.data, flag, Together())
        self.callbacks = callbacks_of(prepared, self.data, lock, self.step, watchdog, advance)
        self.trainer = make_trainer(prepared, self.step.together, self.callbacks, threads.number)
        self.module.to(self.trainer.strategy.root_device)
        self.optimizer = self.module.configure_optimizers()
        self.trainer.strategy.connect(self.module)
        self.trainer.strategy.optimizers = [self.optimizer]
        self.trainer.datamodule, self.data.trainer = self.data, self.trainer  # type: ignore[attr-defined]
        self.module.trainer = self.trainer
        self.generator = torch.Generator()
        self.epoch, self.taking = 0, True
        if prepared.resume is not None:
            self._restore(checkpoints.read_file(prepared.resume))
        self._count(prepared.done, ended=False)
        self.call("on_train_start")

    @property
    def finished(self) -> bool:
        return self.trainer.should_stop or self.epoch >= len(self.prepared.epoch_steps)

    def begin_epoch(self) -> Iterator[Batch]:
        """The epoch's batches, from where the run stands on."""
        self._count(self.trainer.global_step, ended=False)
        stream = iter(self.data.train_dataloader())
        self.call("on_train_epoch_start")
        return stream

    def begin_step(self, batch: Batch) -> int:
        """The seed of the batch's random numbers."""
        number = self.data.consumed // self.data.global_batch
        self.call("on_train_batch_start", batch, number)
        return self.module.seed_of(number)

    def end_step(self, losses: Sequence[float], stopped: bool) -> None:
        """As the end of a batch that the optimiser has stepped on.

        Args: losses: of each active target.   stopped: whether a signal asks to end here.
        Raises: Diverged; InputError where nothing can be written.
        """
        each = torch.tensor(losses)
        self.step.told(each, stopped)
        self._count(self.trainer.global_step + 1, ended=False)
        self.call("on_train_batch_end", None, None, self.trainer.fit_loop.epoch_loop.batch_idx)

    def end_epoch(self, losses: torch.Tensor | None) -> None:
        """Args: losses: of validation, each active target's; None: nobody validates.

        Raises: as `end_step`.
        """
        self._count(self.trainer.global_step, ended=True)
        self._one(Validate).row = {} if losses is None else row_of(self.module, losses)
        self.call("on_train_epoch_end")
        self.epoch += 1

    def call(self, hook: str, *details: Any) -> None:
        """Every callback that has this hook, but for those whose work the stack does at once."""
        done = (StepEnd, Validate) if hook in ("on_train_batch_end", "on_train_epoch_end") else ()
        try:
            for callback in self.callbacks:
                if getattr(type(callback), hook) is not getattr(
                    L.Callback, hook
                ) and not isinstance(callback, done):
                    getattr(callback, hook)(self.trainer, self.module, *details)
        except Diverged as error:
            self.call("on_exception", error)
            raise

    def _one(self, kind: type[Any]) -> Any:
        return next(each for each in self.callbacks if isinstance(each, kind))

    def _restore(self, saved: dict[str, Any]) -> None:
        """From a checkpoint, as Lightning reads one."""
        self.module.on_load_checkpoint(saved)
        self.module.load_state_dict(saved["state_dict"])
        self.optimizer.load_state_dict(saved["optimizer_states"][0])
        self.data.load_state_dict(saved["ConnectomeData"])
        for callback in self.callbacks:
            if callback.state_key in saved["callbacks"]:
                callback.load_state_dict(saved["callbacks"][callback.state_key])
        whole = self.data.consumed >= self.data.plan(self.data.epoch).scans
        self.epoch = self.data.epoch + whole

    def _count(self, steps: int, ended: bool) -> None:
        """What Lightning's loops count, which it goes on from.

        Args: steps: that the optimiser has taken.   ended: whether the epoch's batches are over.
        """
        fit: Any = self.trainer.fit_loop
        loop, optimizer = fit.epoch_loop, fit.epoch_loop.automatic_optimization.optim_progress
        begun = self.data.epoch == self.epoch
        number = -(-self.data.consumed // self.data.global_batch) if begun else 0
        # A step's checkpoint is written before Lightning counts its batch as completed.
        _set(loop.batch_progress, steps, number, behind=0 if ended else 1)
        loop.batch_progress.is_last_batch = begun and self.step.epoch_is_whole()
        loop._batches_that_stepped = loop.batch_progress.total.completed
        _set(optimizer.optimizer.step, steps, number)
        _set(optimizer.optimizer.zero_grad, steps, number)
        _set(fit.epoch_progress, self.epoch + 1, self.epoch + 1, behind=1)
        if not ended:
            fit.epoch_progress.total.processed = fit.epoch_progress.current.processed = self.epoch


def _set(progress: Any, total: int, current: int, behind: int = 0) -> None:
    """Lightning's counts of something.  Args: behind: by how many `completed` is behind."""
    for tracker, count in ((progress.total, total), (progress.current, current)):
        for field in vars(tracker):
            setattr(tracker, field, count)
        tracker.completed = max(0, count - behind)
