"""When a run saves, and which checkpoints stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from lcm_scale.config import TrainerConfig
from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.callbacks.validate import Validate
from lcm_scale.training.module import LCMModule
from lcm_scale.training.together import Together
from lcm_scale.weights import checkpoints


class Save(L.Callback):
    """Always added, after `Validate` and `Log`.

    A step's checkpoint is written at each epoch's end, every `checkpoint_steps`, at `max_steps` and
    where a signal ends the run; `best.ckpt` where the last phase's validation loss is its lowest so
    far. Losses of different phases (other targets, other readouts) do not compare, so the last one
    chooses.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainerConfig,
        step: StepEnd,
        validation: Validate,
        together: Together,
    ) -> None:
        self.run, self.folder, self.together = folder, folder / "checkpoints", together
        self.config, self.step, self.validation = config, step, validation
        self.best = float("inf")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        every = self.config.checkpoint_steps
        due = (
            (every and trainer.global_step % every == 0)
            or trainer.global_step == self.config.max_steps
            or self.step.stopped
        )
        # At the epoch's end the checkpoint waits for validation, so that a resume starts the next
        # epoch.
        if self.step.done and due and not self.step.epoch_done:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.step.epoch_is_whole():
            return  # stopped in the middle: saved there
        module: LCMModule = pl_module  # type: ignore[assignment]
        value = self.validation.row.get("val_loss")
        chooses = module.phase == module.phases[-1]
        if value is not None and chooses and value < self.best:
            self.best = value
            trainer.save_checkpoint(self.folder / checkpoints.BEST, weights_only=True)
            self.together.agree(trainer.strategy)
        self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """This step's checkpoint; once it is there, older ones go by the recipe's policy."""
        trainer.save_checkpoint(self.folder / f"step-{trainer.global_step:08d}.ckpt")
        if trainer.is_global_zero and self.together.held is None:
            with self.together.alone():
                self.tidy(trainer)
        self.together.agree(trainer.strategy)

    def tidy(self, trainer: L.Trainer) -> None:
        """Of the first rank alone.  Raises: InputError where the disk is full."""
        checkpoints.prune(self.folder, self.config.keep_checkpoints, self.config.keep_every_steps)
        module: LCMModule = trainer.lightning_module  # type: ignore[assignment]
        decays = module.recipe.optim.schedule == "wsd"
        if decays and trainer.global_step == module.prepared.decay_step:
            checkpoints.keep_stable(self.run, trainer.global_step)
