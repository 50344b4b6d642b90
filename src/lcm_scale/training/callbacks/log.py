"""What a run writes about itself: `log.jsonl`, an event a line, and `metrics.csv`, a row an epoch;
and when it saves.

A step's line names the positions of the epoch's order that it consumed, so that "each scan exactly
once" can be read off the log of a run that was killed and resumed: a `resumed` line withdraws the
steps after the one it names.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from lcm_scale.config import TrainerConfig
from lcm_scale.data.module import ConnectomeData
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic
from lcm_scale.ranks import is_first
from lcm_scale.training.callbacks.meter import Meter
from lcm_scale.training.callbacks.phase import two_stage
from lcm_scale.training.callbacks.stop import StopFlag, Watchdog
from lcm_scale.training.module import LCMModule
from lcm_scale.weights import checkpoints

Row = dict[str, Any]


def read_log(path: Path) -> list[Row]:
    """The events that count: steps that a later resume took back are left out; a torn last line
    too."""
    events: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if event["event"] == "resumed":
            events = [e for e in events if e.get("step", 0) <= event["step"]]
        events.append(event)
    return events


def append_line(path: Path, text: str) -> None:
    """Append a line; a torn one before it, as a full disk leaves, is ended first, so that it spoils
    no other.

    Raises: InputError where the file cannot be written.
    """
    try:
        with open(path, "ab+") as handle:
            if (
                handle.seek(0, os.SEEK_END)
                and (handle.seek(-1, os.SEEK_END), handle.read(1))[1] != b"\n"
            ):
                text = "\n" + text
            handle.write(text.encode() + b"\n")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); check space; the same command goes on from the newest checkpoint"
        ) from error


def epochs_of(events: Sequence[Row]) -> list[Row]:
    """The epoch rows of a log."""
    return [{k: v for k, v in e.items() if k != "event"} for e in events if e["event"] == "epoch"]


class Recorder(L.Callback):
    """Counts what was consumed, logs it, validates at each epoch's end, saves by policy. Always
    added, last.

    Attributes:
        stopped: true where a signal ended the run before its last step; a checkpoint of that moment
            exists.
    """

    def __init__(
        self,
        folder: Path,
        data: ConnectomeData,
        advance: Callable[..., None],
        config: TrainerConfig,
        flag: StopFlag,
        watchdog: Watchdog,
    ) -> None:
        self.folder, self.data, self.advance = folder, data, advance
        self.config, self.flag, self.watchdog = config, flag, watchdog
        self.meter = Meter(data)
        self.best = float("inf")
        self.losses: list[float] = []
        self.micro: list[torch.Tensor] = []
        self.stopped = False
        self.epoch_start = time.monotonic()

    def event(self, name: str, **values: Any) -> None:
        if is_first():
            append_line(self.folder / "log.jsonl", json.dumps({"event": name, **values}))

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "losses": self.losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.losses = state_dict["best"], list(state_dict["losses"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epoch_start = time.monotonic()
        if is_first() and (self.folder / "log.jsonl").is_file():
            # Also at step 0: a run that was killed before its first checkpoint begins again.
            self.event(
                "resumed",
                step=trainer.global_step,
                epoch=trainer.current_epoch,
                world=trainer.world_size,
            )

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
        if (batch_idx + 1) % self.data.accumulate:
            return
        consumed = self.data.step_consumed()
        loss = self.agree(trainer)
        self.losses.append(loss)
        self.event(
            "step",
            step=trainer.global_step,
            epoch=trainer.current_epoch,
            phase=module.phase.name,
            stage=two_stage(trainer).param_groups[0]["stage"],
            consumed=[consumed.start, consumed.stop],
            loss=loss,
        )
        self.advance(1, note=f"{module.phase.name} loss {loss:.3f}")
        epoch_done = consumed.stop == self.data.plan(self.data.epoch).scans
        every = self.config.checkpoint_steps
        due = (
            (every and trainer.global_step % every == 0)
            or trainer.global_step == self.config.max_steps
            or self.stopped
        )
        # At the epoch's end the checkpoint waits for validation, so that a resume starts the next
        # epoch.
        if due and not epoch_done:
            self.save(trainer)
        # Lightning's own max_steps would count the epoch that ended at a checkpoint as not begun
        # when the run goes on.
        trainer.should_stop |= self.stopped or trainer.global_step == self.config.max_steps
        self.watchdog.beat()

    def agree(self, trainer: L.Trainer) -> float:
        """The step's loss over all ranks and micro-batches; and whether any rank was told to stop,
        for all ranks at once."""
        loss = torch.stack(self.micro).mean()
        self.micro = []
        both = torch.stack([loss, loss.new_tensor(float(self.flag.raised))])
        mean = trainer.strategy.reduce(both, reduce_op="mean")
        self.stopped = bool(mean[1] > 0)
        return float(mean[0])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: LCMModule = pl_module  # type: ignore[assignment]
        if self.data.consumed < self.data.plan(self.data.epoch).scans:
            return  # stopped in the middle: saved there
        row: Row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "phase": module.phase.name,
            "lr": two_stage(trainer).param_groups[0]["lr"],
            "train_loss": sum(self.losses) / len(self.losses),
            **self.validate(trainer, module),
            "seconds": round(time.monotonic() - self.epoch_start, 3),
            "precision": str(trainer.precision),
            **self.meter.row(trainer, module),
        }
        self.losses, self.epoch_start = [], time.monotonic()
        self.event("epoch", **row)
        if is_first():
            write_metrics(self.folder)
        value = row.get("val_loss")
        if value is not None and self.may_choose(module) and value < self.best:
            self.best = value
            trainer.save_checkpoint(
                self.folder / "checkpoints" / checkpoints.BEST, weights_only=True
            )
        self.save(trainer)
        self.watchdog.beat()

    def may_choose(self, module: LCMModule) -> bool:
        """Losses of different phases (other targets, other readouts) do not compare: the last phase
        chooses."""
        return module.phase == module.phases[-1]

    def validate(self, trainer: L.Trainer, module: LCMModule) -> Row:
        """The loss of the validation scans, each rank taking its share of every batch."""
        if not len(self.data.validation):
            return {}
        was_training = module.training
        module.eval()
        total = torch.zeros(len(module.phase.active), device=module.device)
        columns = list(module.phase.active)
        for batch in self.data.batches(
            self.data.validation, columns, trainer.global_rank, trainer.world_size
        ):
            with trainer.precision_plugin.forward_context():  # at the pace of training
                total += module.validation_losses(
                    {k: v.to(module.device) for k, v in batch.items()}
                )
        module.train(was_training)
        total = trainer.strategy.reduce(total, reduce_op="sum")
        row: Row = {"val_loss": float(total.sum())}
        for number, value in zip(module.phase.active, total.tolist(), strict=True):
            row[f"val_loss: {module.vocabulary.names[number]}"] = value
        return row

    def save(self, trainer: L.Trainer) -> None:
        folder = self.folder / "checkpoints"
        trainer.save_checkpoint(folder / f"step-{trainer.global_step:08d}.ckpt")
        if trainer.is_global_zero:
            checkpoints.prune(folder, self.config.keep_checkpoints, self.config.keep_every_steps)
            module: LCMModule = trainer.lightning_module  # type: ignore[assignment]
            if module.recipe.optim.schedule == "wsd" and trainer.global_step == module.decay_step:
                checkpoints.keep_stable(self.folder, trainer.global_step)


def write_metrics(folder: Path) -> None:
    """`metrics.csv`, made anew from the log."""
    rows = epochs_of(read_log(folder / "log.jsonl"))
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=names)
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / "metrics.csv", text.getvalue().encode())
