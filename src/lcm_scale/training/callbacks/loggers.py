"""Copies the log's numbers to the loggers of `trainer.loggers`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger

from lcm_scale.errors import InputError
from lcm_scale.terminal import one_line, print
from lcm_scale.training.callbacks.log import Log
from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.loggers import NEEDS, known_runs, make_logger, remember_run, told_of
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.run_log import highest_step
from lcm_scale.training.together import Together

EVERY = 10  # steps between two losses of single steps that are copied; epochs are copied all
NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_. -]+")  # which MLflow refuses


class Loggers(L.Callback):
    """Added on the first rank, after `Log`.

    They are no loggers of the trainer: Lightning would ask each rank for them, and a failure of one
    rank alone would leave the others waiting. A logger that fails at the start ends the run; one
    that fails later, as when its server is away, is told of once and left out.

    Attributes:
        first: logger -> the first step that it is still to get. A run that goes on comes again to
            steps behind its checkpoint, which are there already.
    """

    def __init__(self, prepared: PreparedRun, log: Log, step: StepEnd, together: Together) -> None:
        self.prepared, self.written, self.step, self.together = prepared, log, step, together
        self.open: dict[str, Logger] = {}
        self.first: dict[str, int] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with self.together.alone():
            for name in self.prepared.recipe.trainer.loggers:
                if name in NEEDS:
                    self.start(name, trainer.global_step)

    def start(self, name: str, done: int) -> None:
        """Open a logger, and tell it of the recipe where the run is new there.

        Raises: InputError in the logger's words, as where there is nobody logged in.
        """
        recipe, folder = self.prepared.recipe, self.prepared.folder
        known = known_runs(folder).get(name)
        try:
            logger = make_logger(name, recipe, folder, done)
            _ = logger.experiment  # type: ignore[attr-defined]  # all but the base class have it
            run = str(logger.version)
            if known is None:
                told = told_of(recipe)
                logger.log_hyperparams(told | {"training scans": len(self.prepared.train)})
        except Exception as error:  # theirs are of any class
            raise InputError(f"trainer.loggers: {name}: {one_line(str(error))}") from error
        self.open[name], self.first[name] = logger, 0
        if name == "tensorboard":
            return  # it hides doubled steps itself
        if known == run:
            self.first[name] = highest_step(folder / "log.jsonl") + 1
        remember_run(folder, name, run)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self.step.done and trainer.global_step % EVERY == 0:
            self.copy({"loss": self.step.loss}, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.step.epoch_is_whole():
            self.copy(numbers_of(self.written.row), trainer.global_step)

    def copy(self, numbers: Mapping[str, float], step: int) -> None:
        for name, logger in list(self.open.items()):
            if step < self.first[name]:
                continue
            try:
                logger.log_metrics(dict(numbers), step)
            except Exception as error:  # theirs are of any class
                self.leave_out(name, error)

    def leave_out(self, name: str, error: Exception) -> None:
        """The log has everything, so that a copy that fails is no reason to stop."""
        del self.open[name]
        print(
            f"trainer.loggers: {name}: {one_line(str(error))}; the run goes on without it",
            file=sys.stderr,
        )

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self.end("failed")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.end("success")

    def end(self, status: str) -> None:
        """Args: status: as Lightning's loggers take it."""
        for name, logger in list(self.open.items()):
            try:
                logger.save()
                logger.finalize(status)
                if name == "wandb":  # else the next fold would go on in this run
                    logger.experiment.finish(0 if status == "success" else 1)  # type: ignore[attr-defined]
            except Exception as error:  # theirs are of any class
                self.leave_out(name, error)
        self.open = {}


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """An epoch's numbers by names that every logger takes: ``val_loss: age`` becomes
    ``target_val_loss/age``, since MLflow's files cannot hold ``val_loss`` and ``val_loss/age``."""
    numbers = {}
    for key, value in row.items():
        head, of_target, target = key.partition(": ")
        name = f"target_{head}/{NOT_IN_NAMES.sub('_', target)}" if of_target else head
        if isinstance(value, int | float):
            numbers[name] = float(value)
    return numbers
