"""Where an optimiser step ends: what it consumed, and what the ranks agree on."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from lcm_scale.data.module import ConnectomeData
from lcm_scale.training.module import LCMModule
from lcm_scale.training.signals import StopFlag


class StepEnd(L.Callback):
    """Always added, before the callbacks that read it; they do nothing while `done` is false.

    Two numbers go over the ranks in one all-reduce: the step's loss, and whether any rank was told
    to stop, so that all of them stop after the same step.

    Attributes:
        done: whether the batch that just ended was a step's last micro-batch.
        consumed: positions of the epoch's order that the step consumed.
        epoch_done: whether they were the epoch's last.
        loss: over all ranks and micro-batches.   stopped: a signal asks the run to end here.
    """

    def __init__(self, data: ConnectomeData, flag: StopFlag) -> None:
        self.data, self.flag = data, flag
        self.micro: list[torch.Tensor] = []
        self.done, self.epoch_done, self.stopped = False, False, False
        self.consumed = slice(0, 0)
        self.loss = float("nan")

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        module: LCMModule = pl_module  # type: ignore[assignment]
        self.micro.append(module.last_losses.sum())
        self.done = (batch_idx + 1) % self.data.accumulate == 0
        if not self.done:
            return
        self.consumed = self.data.step_consumed()
        self.epoch_done = self.consumed.stop == self.data.plan(self.data.epoch).scans
        loss = torch.stack(self.micro).mean()
        self.micro = []
        numbers = torch.stack([loss, loss.new_tensor(float(self.flag.raised))])
        mean = trainer.strategy.reduce(numbers, reduce_op="mean")
        self.loss, self.stopped = float(mean[0]), bool(mean[1] > 0)

    def epoch_is_whole(self) -> bool:
        """Whether the epoch that ends was gone through, not stopped in its middle."""
        return self.data.consumed >= self.data.plan(self.data.epoch).scans
