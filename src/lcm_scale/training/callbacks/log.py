"""Writes what happens to `log.jsonl` and `metrics.csv`, and shows it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from lcm_scale.errors import Diverged
from lcm_scale.lock import Lock
from lcm_scale.ranks import is_first
from lcm_scale.training.callbacks.meter import Meter
from lcm_scale.training.callbacks.phase import two_stage
from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.callbacks.validate import Validate
from lcm_scale.training.module import LCMModule
from lcm_scale.training.run_log import EpochRow, Lines, Metrics
from lcm_scale.training.together import Together


class Log(L.Callback):
    """Always added, after `StepEnd` and `Validate`.

    Attributes:
        losses: of the epoch's steps so far; saved, so that a resumed epoch's mean is the whole
            one's.
        row: of the epoch that ended last.
    """

    def __init__(
        self,
        folder: Path,
        lock: Lock | None,
        together: Together,
        advance: Callable[..., None],
        step: StepEnd,
        validation: Validate,
        meter: Meter,
    ) -> None:
        self.folder, self.lock, self.together, self.advance = folder, lock, together, advance
        self.step, self.validation, self.meter = step, validation, meter
        self.lines = Lines(folder / "log.jsonl")
        self.metrics = Metrics(folder)
        self.writes = is_first()  # read from the environment: once, not at every step
        self.losses: list[float] = []
        self.row: EpochRow = {}
        self.epoch_start = time.monotonic()

    def event(self, name: str, **values: Any) -> None:
        if self.writes:
            with self.together.alone():
                if self.lock is not None:
                    self.lock.check()
                self.lines.append(json.dumps({"event": name, **values}))

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = list(state_dict["losses"])

    def close(self) -> None:
        with self.together.alone():
            self.lines.close()

    def on_save_checkpoint(self, *_: Any) -> None:
        """A checkpoint is never ahead of the log, whatever becomes of this machine."""
        self.close()

    def teardown(self, *_: Any, **__: Any) -> None:
        self.close()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epoch_start = time.monotonic()
        if self.writes and (self.folder / "log.jsonl").is_file():
            # Also at step 0: a run that was killed before its first checkpoint begins again.
            self.event(
                "resumed",
                step=trainer.global_step,
                epoch=trainer.current_epoch,
                world=trainer.world_size,
            )
            with self.together.alone():
                self.metrics.rewrite()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, Diverged):
            self.event("diverged", step=exception.step, reason=str(exception))

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
        self.losses.append(self.step.loss)
        self.event(
            "step",
            step=trainer.global_step,
            of=module.prepared.steps,
            epoch=trainer.current_epoch,
            epochs=len(module.prepared.epoch_steps),
            phase=module.phase.name,
            stage=two_stage(trainer).param_groups[0]["stage"],
            consumed=[self.step.consumed.start, self.step.consumed.stop],
            loss=self.step.loss,
            time=round(time.time(), 2),
        )
        self.advance(1, note=f"{module.phase.name} loss {self.step.loss:.3f}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.step.epoch_is_whole():
            return
        module: LCMModule = pl_module  # type: ignore[assignment]
        row = self.row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "phase": module.phase.name,
            "lr": two_stage(trainer).param_groups[0]["lr"],
            "train_loss": sum(self.losses) / len(self.losses),
            **self.validation.row,
            "seconds": round(time.monotonic() - self.epoch_start, 3),
            "precision": str(trainer.precision),
            **self.meter.row(trainer, module),
        }
        self.losses, self.epoch_start = [], time.monotonic()
        self.event("epoch", **row)
        if self.writes:
            with self.together.alone():
                self.metrics.append(row)
