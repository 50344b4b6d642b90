"""Of each target the epoch that does best on the validation scans, as the published protocol takes
it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lcm_scale.data.module import ConnectomeData
from lcm_scale.data.stream import Batch
from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.module import LCMModule
from lcm_scale.training.result import checkpoint_of
from lcm_scale.training.together import Together
from lcm_scale.vocabulary import NOT_APPLICABLE


class BestByTarget(L.Callback):
    """Added, before `Save`, to runs whose evaluation asks for it.

    A class is judged by its accuracy, a scalar by its mean absolute error; of equally good epochs
    the first stays.
    """

    def __init__(
        self, folder: Path, data: ConnectomeData, step: StepEnd, together: Together
    ) -> None:
        self.folder, self.data, self.step, self.together = folder, data, step, together
        self.best: dict[int, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.step.epoch_is_whole():
            return
        module: LCMModule = pl_module  # type: ignore[assignment]
        columns = list(module.phase.active)
        total = torch.zeros(len(columns), device=module.device)
        for batch in self.data.batches(
            self.data.validation, columns, trainer.global_rank, trainer.world_size
        ):
            with trainer.precision_plugin.forward_context():
                total += goodness(
                    module, {name: value.to(module.device) for name, value in batch.items()}
                )
        total = trainer.strategy.reduce(total, reduce_op="sum")
        for number, value in zip(columns, total.tolist(), strict=True):
            if value > self.best.get(number, float("-inf")):
                self.best[number] = value
                trainer.save_checkpoint(checkpoint_of(self.folder, number), weights_only=True)
                self.together.agree(trainer.strategy)


@torch.no_grad()
def goodness(module: LCMModule, batch: Batch) -> Tensor:
    """(active targets,): of a class the batch's share of the accuracy over all scans, of a scalar
    minus its share of the mean absolute error."""
    values = []
    for column, (term, score) in enumerate(
        zip(module.active_terms(), module.scores(batch), strict=True)
    ):
        label = torch.nan_to_num(batch["labels"][:, column])
        right = -(score[:, 0] - label).abs()
        if term.target.is_class:
            if NOT_APPLICABLE in term.target.categories:  # no answer of an evaluation
                score[:, term.target.categories.index(NOT_APPLICABLE)] = -torch.inf
            right = (score.argmax(1) == label.long()).float()
        values.append((right * batch["weights"][:, column]).sum())
    return torch.stack(values).float()
