"""Where an optimiser step ends: what it consumed, and what the ranks agree on."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from lcm_scale.data.module import ConnectomeData
from lcm_scale.training.module import LCMModule
from lcm_scale.training.signals import StopFlag
from lcm_scale.training.together import Together


class StepEnd(L.Callback):
    """Always added, before the callbacks that read it; they do nothing while `done` is false.

    Three numbers go over the ranks in one all-reduce: the step's loss; whether any rank was told to
    stop, so that all of them stop after the same step; and whether any failed at something that it
    did alone.

    Attributes:
        done: whether the batch that just ended was a step's last micro-batch.
        consumed: positions of the epoch's order that the step consumed.
        epoch_done: whether they were the epoch's last.
        loss: over all ranks and micro-batches.   stopped: a signal asks the run to end here.
    """

    def __init__(self, data: ConnectomeData, flag: StopFlag, together: Together) -> None:
        self.data, self.flag, self.together = data, flag, together
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
        if self.done:
            self.micro = []
        self.micro.append(module.last_losses)
        self.done = (batch_idx + 1) % self.data.accumulate == 0
        if not self.done:
            return
        self._advance()
        loss = self.micro[0].sum()
        if len(self.micro) > 1:
            loss = torch.stack([loss, *(losses.sum() for losses in self.micro[1:])]).mean()
        told = [float(self.flag.raised), float(self.together.held is not None)]
        self.loss, stopped, failed = self.agreed(trainer, loss, told)
        self.stopped = stopped > 0
        self.together.end(failed > 0)

    def agreed(self, trainer: L.Trainer, loss: torch.Tensor, told: list[float]) -> list[float]:
        """The ranks' mean of the loss and of what each tells: a step's one wait for the device."""
        if trainer.world_size == 1:
            return [float(loss), *told]
        numbers = torch.cat([loss.view(1), loss.new_tensor(told)])
        mean: list[float] = trainer.strategy.reduce(numbers, reduce_op="mean").tolist()
        return mean

    def told(self, losses: torch.Tensor, stopped: bool) -> None:
        """The same of a model that trains with others in one process.

        Args: losses: (active targets,).   stopped: whether a signal asks the run to end here.
        """
        self.micro, self.done, self.stopped = [losses], True, stopped
        self._advance()
        self.loss = float(losses.sum())
        self.together.end(self.together.held is not None)

    def _advance(self) -> None:
        self.consumed = self.data.step_consumed()
        self.epoch_done = self.consumed.stop == self.data.plan(self.data.epoch).scans

    def each(self) -> torch.Tensor:
        """(active targets,): this rank's part of the loss of the step that just ended."""
        return torch.stack(self.micro).mean(0)

    def epoch_is_whole(self) -> bool:
        """Whether the epoch that ends was gone through, not stopped in its middle."""
        return self.data.consumed >= self.data.plan(self.data.epoch).scans
