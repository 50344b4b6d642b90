"""What the package needs of Lightning's private parts."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from lightning.pytorch.strategies import DeepSpeedStrategy
from lightning.pytorch.trainer import call

from lcm_scale.training.signals import keep_lightning_out

Holds = Callable[[str, bool, str], None]


class Handler(L.Callback):
    """Which handler of SIGTERM is in force during fit."""

    found: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.found = signal.getsignal(signal.SIGTERM)


def handler_during_fit(keep_out: bool) -> Any:
    seen = Handler()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[seen],
    )
    if keep_out:
        keep_lightning_out(trainer)
    trainer.fit(BoringModel())
    return seen.found


def test_a_runs_own_signal_handlers_stay_in_force_during_fit(holds: Holds) -> None:
    def ours(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, ours)
    try:
        kept = handler_during_fit(keep_out=True)
        holds("_signal_connector", kept is ours, "no longer holds register_signal_handlers")
        replaced = handler_during_fit(keep_out=False)
        # Else there is a public way now: leave the private one.
        holds("_signal_connector", replaced is not ours, "no longer replaces a run's handlers")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_trainer_takes_its_steps_by_the_loop_that_ours_replaces(holds: Holds) -> None:
    name = "_AutomaticOptimization"
    taken = list(inspect.signature(_AutomaticOptimization.run).parameters)
    holds(name, taken == ["self", "optimizer", "batch_idx", "kwargs"], f"run takes {taken}")
    source = inspect.getsource(L.Trainer().fit_loop.epoch_loop.advance)
    holds(name, ".automatic_optimization.run(" in source, "is no longer what takes a step")
    zero_grad = _AutomaticOptimization(L.Trainer()).optim_progress.optimizer.zero_grad
    holds(name, hasattr(zero_grad, "increment_started"), "counts otherwise")


def test_an_epochs_loop_counts_the_batches_that_were_stepped_on(holds: Holds) -> None:
    name = "_batches_that_stepped"
    loop = L.Trainer().fit_loop.epoch_loop
    holds(name, getattr(loop, name, None) == 0, "is no longer the loop's count")
    holds(name, name in loop.on_save_checkpoint(), "is no longer in a checkpoint")


def test_a_hook_that_cannot_be_called_is_passed_over(holds: Holds) -> None:
    source = inspect.getsource(call)
    holds("_AutomaticOptimization", source.count("if callable(fn)") >= 1, "calls every hook")


def test_its_deepspeed_strategy_starts_and_cuts_the_model_where_ours_steps_in(
    holds: Holds,
) -> None:
    for name, arguments, caller in (
        ("_init_deepspeed_distributed", ["self"], "setup_distributed"),
        ("_initialize_deepspeed_train", ["self", "model"], ""),
        ("_init_optimizers", ["self"], ""),
    ):
        method = getattr(DeepSpeedStrategy, name, None)
        taken = method and list(inspect.signature(method).parameters)
        holds(name, taken == arguments, f"no longer takes {arguments}: {taken}")
        source = inspect.getsource(getattr(DeepSpeedStrategy, caller, DeepSpeedStrategy))
        holds(name, f"self.{name}(" in source, "is no longer called by the strategy itself")
