"""Ends a run after the step that is its last, and tells the watchdog that it moves."""

from __future__ import annotations

from typing import Any

import lightning as L

from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.signals import Watchdog


class Stop(L.Callback):
    """Always added, after `Save`."""

    def __init__(self, max_steps: int | None, step: StepEnd, watchdog: Watchdog) -> None:
        self.max_steps, self.step, self.watchdog = max_steps, step, watchdog

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if not self.step.done:
            return
        # Lightning's own max_steps would count the epoch that ended at a checkpoint as not begun
        # when the run goes on.
        trainer.should_stop |= self.step.stopped or trainer.global_step == self.max_steps
        self.watchdog.beat()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.watchdog.beat()
