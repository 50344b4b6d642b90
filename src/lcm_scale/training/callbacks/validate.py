"""The loss of the validation scans at each epoch's end."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from lcm_scale.data.module import ConnectomeData
from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.module import LCMModule


class Validate(L.Callback):
    """Always added, before `Log` and `Save`.

    Attributes:
        row: of the epoch that ended: ``val_loss`` and each target's part; empty without validation
            scans.
    """

    def __init__(self, data: ConnectomeData, step: StepEnd) -> None:
        self.data, self.step = data, step
        self.row: dict[str, Any] = {}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.step.epoch_is_whole():
            self.row = self.validate(trainer, pl_module)  # type: ignore[arg-type]

    def validate(self, trainer: L.Trainer, module: LCMModule) -> dict[str, Any]:
        """Each rank takes its share of every batch."""
        if not len(self.data.validation):
            return {}
        columns = list(module.phase.active)
        total = torch.zeros(len(columns), device=module.device)
        for batch in self.data.batches(
            self.data.validation, columns, trainer.global_rank, trainer.world_size
        ):
            with trainer.precision_plugin.forward_context():  # at the pace of training
                total += module.validation_losses(
                    {name: value.to(module.device) for name, value in batch.items()}
                )
        return row_of(module, trainer.strategy.reduce(total, reduce_op="sum"))


def row_of(module: LCMModule, total: torch.Tensor) -> dict[str, Any]:
    """What an epoch's row says of it.  Args: total: (active targets,) losses."""
    row: dict[str, Any] = {"val_loss": float(total.sum())}
    for number, value in zip(module.phase.active, total.tolist(), strict=True):
        row[f"val_loss: {module.vocabulary.names[number]}"] = value
    return row
