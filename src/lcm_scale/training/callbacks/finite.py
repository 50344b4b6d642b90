"""Ends a run at its first loss that is no number, before anything of that step is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from lcm_scale.errors import Diverged, Elsewhere
from lcm_scale.ranks import is_first
from lcm_scale.training.callbacks.phase import two_stage
from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.callbacks.validate import Validate
from lcm_scale.training.module import LCMModule


class Finite(L.Callback):
    """Always added, after `StepEnd` and `Validate`, before `Log` and `Save`.

    A step's loss is looked at when its step ends: there is no delay, and no reading of the device
    beyond the one that the log needs. The optimiser has taken the step by then, so the weights in
    memory are spoiled, and the run ends before they are saved. The loss is the mean over the ranks
    and the same number on each: all of them end here, without asking one another.

    Weights that overflow while the loss is still a number are seen at the next step's loss, or
    where they would be saved (`AtomicCheckpointIO`), whichever comes first.
    """

    def __init__(self, folder: Path, step: StepEnd, validation: Validate) -> None:
        self.folder, self.step, self.validation = folder, step, validation

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
        module: LCMModule = pl_module  # type: ignore[assignment]
        if not math.isfinite(self.step.loss):
            each = trainer.strategy.reduce(self.step.each(), reduce_op="mean").tolist()
            self.stop(trainer, module, f"the loss is {self.step.loss}", _named(module, each))
        # The scans of a step that was left out would count as trained on.
        if getattr(trainer.strategy, "left_out_step", False):
            self.stop(trainer, module, "a gradient of a finite loss is not finite", "")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: LCMModule = pl_module  # type: ignore[assignment]
        row = self.validation.row
        if self.step.epoch_is_whole() and not math.isfinite(row.get("val_loss", 0.0)):
            each = [value for name, value in row.items() if name != "val_loss"]
            fault = f"the validation loss is {row['val_loss']}"
            self.stop(trainer, module, fault, _named(module, each))

    def stop(self, trainer: L.Trainer, module: LCMModule, fault: str, named: str) -> None:
        """Raises: Diverged on the first rank, which tells it, Elsewhere on the others."""
        if not is_first():
            raise Elsewhere
        group = two_stage(trainer).param_groups[0]
        rate = f"optim.{group['stage']}.lr"
        kept = sorted((self.folder / "checkpoints").glob("step-*.ckpt"))
        ways = [f"lower {rate}", "set optim.clip_norm"]
        if trainer.precision != "32-true":
            ways.append("set trainer.precision=32-true")
        raise Diverged(
            f"{self.folder}: {fault} at step {trainer.global_step} ({named}phase "
            f"{module.phase.name}, {rate} {group['lr']:g}); "
            + (f"{kept[-1].name} is kept" if kept else "no checkpoint was written yet")
            + f"; {' or '.join(ways)}",
            trainer.global_step,
        )


def _named(module: LCMModule, each: Sequence[float]) -> str:
    """The targets whose loss is no number.  Args: each: the loss of each active target."""
    targets = [term.target.name for term in module.active_terms()]
    bad = [name for name, loss in zip(targets, each, strict=True) if not math.isfinite(loss)]
    if len(bad) == len(targets) > 1:
        return "all targets, "
    # Finite parts may add up to more than a number holds.
    bad = bad or [max(zip(each, targets, strict=True))[1]]
    return f"target {', '.join(bad[:4])}, "
