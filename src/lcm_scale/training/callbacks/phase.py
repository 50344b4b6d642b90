"""Puts the phase of the epoch in force: the optimiser's rule, the rate, the readout, the active
targets."""

from __future__ import annotations

from typing import Any

import lightning as L

from lcm_scale.training.module import LCMModule
from lcm_scale.training.optimizer import MOMENTUM, TwoStage
from lcm_scale.training.schedule import lr_factor, phase_at


class PhaseSwitch(L.Callback):
    """Puts the phase of the epoch in force: the optimiser's rule, the rate, the readout, the active
    targets.

    Always added. It runs at each epoch's start and once more when a run resumes in the middle of
    one.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.apply(trainer, pl_module)  # type: ignore[arg-type]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.apply(trainer, pl_module)  # type: ignore[arg-type]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        module: LCMModule = pl_module  # type: ignore[assignment]
        config = module.recipe.optim
        factor = (
            lr_factor(
                config, trainer.global_step, module.prepared.total_steps, module.prepared.decay_step
            )
            * module.phase.lr_scale
        )
        for group in two_stage(trainer).param_groups:
            group["lr"] = getattr(config, group["stage"]).lr * factor * group["lr_scale"]

    def apply(self, trainer: L.Trainer, module: LCMModule) -> None:
        module.phase = phase_at(module.phases, trainer.current_epoch)
        optimizer = two_stage(trainer)
        optimizer.set_stage(module.phase.stage)
        stage = (
            module.recipe.optim.momentum
            if module.phase.stage == MOMENTUM
            else module.recipe.optim.adaptive
        )
        for group in optimizer.param_groups:
            group["momentum"], group["betas"], group["eps"] = (
                stage.momentum,
                (stage.beta1, stage.beta2),
                stage.eps,
            )
            decay = group["decay"]
            group["weight_decay"] = stage.weight_decay if decay is None else decay
            group["active"] = group["target"] < 0 or group["target"] in module.phase.active


def two_stage(trainer: L.Trainer) -> TwoStage:
    """The run's optimiser, unwrapped."""
    optimizer: Any = trainer.optimizers[0]
    optimizer = getattr(optimizer, "optimizer", optimizer)
    assert isinstance(optimizer, TwoStage)
    return optimizer
