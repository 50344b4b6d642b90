"""What the package needs of Lightning's private parts."""

from __future__ import annotations

import ast
import inspect
import signal
import textwrap
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
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


def called_by(method: Callable[..., Any]) -> set[str]:
    """What is called in a method, as it is written there."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


# What Lightning's loop calls at each batch and ours does not, with the reason.
LEFT_OUT = {
    # a run on one device: there is nobody to tell, and a tensor is moved by `to`
    "_broadcast_sigterm_tensor": "several ranks",
    "convert_input": "deepspeed, half and double precision",
    "_on_before_batch_transfer": "no such hook",
    "_call_strategy_hook": "no strategy with a part in a step",
    # nothing is logged, validated or scheduled by Lightning (fit.OURS), nor profiled
    "on_batch_start": "no logger",
    "on_batch_end": "no logger",
    "update_train_step_metrics": "no logger",
    "_save_loggers_on_train_batch_end": "no logger",
    "_should_check_val_fx": "no validation",
    "increment_progress_to_evaluation_end": "no validation",
    "run": "manual optimisation, validation",
    "update_lr_schedulers": "no schedulers",
    "_num_ready_batches_reached": "no schedulers",
    "profile": "no profiler",
    # batches are never None, no hook ends an epoch, and signals are ours (training/signals.py)
    "warn": "no batch is None",
    "isinstance": "no loader's iterator is handed on",
    "OrderedDict": "no loader's iterator is handed on",
    "StopIteration": "no hook ends an epoch",
    "increment_by": "no hook ends an epoch",
    "is_available": "several ranks",
    "is_initialized": "several ranks",
}
# The same in another way: hooks directly, the step's arguments as they are.
OTHERWISE = {"_call_callback_hooks", "_call_lightning_module_hook", "_build_kwargs"}
ALIKE = {
    "next",
    "increment_ready",
    "increment_started",
    "increment_processed",
    "increment_completed",
    "_should_accumulate",
}


def test_an_epochs_loop_does_at_a_batch_what_ours_does_or_leaves_out(holds: Holds) -> None:
    name = "_TrainingEpochLoop"
    trainer = L.Trainer()
    loop = trainer.fit_loop.epoch_loop
    holds(name, type(loop) is _TrainingEpochLoop, "is no longer what goes through an epoch")
    taken = list(inspect.signature(_TrainingEpochLoop).parameters)
    holds(name, taken == ["trainer", "min_steps", "max_steps"], f"takes {taken}")
    run = called_by(_TrainingEpochLoop.run)
    ours = {"self.on_run_start", "self.advance", "self.on_advance_end"}
    holds(name, ours <= run, f"calls {run}")
    at_a_batch = called_by(_TrainingEpochLoop.advance) | called_by(
        _TrainingEpochLoop.on_advance_end
    )
    new = {call.rpartition(".")[2] for call in at_a_batch} - {*LEFT_OUT, *OTHERWISE, *ALIKE}
    holds(name, not new, f"does more at a batch than it did: {new}")


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
