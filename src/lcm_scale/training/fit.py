"""The one training path: under `pretrain` and `finetune`, every fold and every point of a sweep."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from lcm_scale import progress
from lcm_scale.config import Recipe
from lcm_scale.data.module import ConnectomeData
from lcm_scale.errors import InputError, Stopped
from lcm_scale.lock import Lock, holding
from lcm_scale.model import dispatch
from lcm_scale.model.triangle import upper
from lcm_scale.ranks import is_first, rank
from lcm_scale.training.callbacks.alike import Alike
from lcm_scale.training.callbacks.by_target import BestByTarget
from lcm_scale.training.callbacks.finite import Finite
from lcm_scale.training.callbacks.log import Log
from lcm_scale.training.callbacks.loggers import Loggers
from lcm_scale.training.callbacks.meter import Meter
from lcm_scale.training.callbacks.one_rule import OneRule
from lcm_scale.training.callbacks.phase import PhaseSwitch
from lcm_scale.training.callbacks.pseudo import PseudoLabels
from lcm_scale.training.callbacks.save import Save
from lcm_scale.training.callbacks.step import StepEnd
from lcm_scale.training.callbacks.stop import Stop
from lcm_scale.training.callbacks.validate import Validate
from lcm_scale.training.computing import decide
from lcm_scale.training.folder import write_head
from lcm_scale.training.graph import OnGPU, step_by_graph
from lcm_scale.training.hooks import Unprofiled, only_what_they_do, step_plainly
from lcm_scale.training.module import LCMModule
from lcm_scale.training.parallel.strategy import prepare_model, trainer_arguments
from lcm_scale.training.prepare import PreparedRun, prepare, prepare_finetuning
from lcm_scale.training.remember import remember
from lcm_scale.training.result import FitResult, read_audit, result_of
from lcm_scale.training.run_log import LOCK
from lcm_scale.training.schedule import phase_at
from lcm_scale.training.signals import StopFlag, Watchdog, keep_lightning_out
from lcm_scale.training.together import Together
from lcm_scale.training.transfer import transfer
from lcm_scale.weights import checkpoints

# What Lightning leaves to us: logs, checkpoints, progress, validation, and which scan comes when.
OURS: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0,
    "reload_dataloaders_every_n_epochs": 1,
    "use_distributed_sampler": False,
}


def pretrain(recipe: Recipe) -> Path:
    """Pretrain on the recipe's sets.  Returns: the run folder.  Raises: InputError, Stopped."""
    return fit(prepare(recipe)).folder


def finetune(recipe: Recipe) -> Path:
    """Finetune `init_from` on the recipe's sets.  Returns: the run folder.  Raises: InputError,
    Stopped."""
    return fit(prepare_finetuning(recipe)).folder


def fit(prepared: PreparedRun) -> FitResult:
    """Train one model, or go on where the folder's newest checkpoint stands.

    Raises: Stopped where a signal ended it with a good checkpoint; Diverged where a loss or a
        weight is no number any more; InputError where the disk is full, or another run is at work
        in the folder. Where several ranks train, one of them raises it and the others Elsewhere.
    """
    with holding(prepared.folder / LOCK) as lock:
        see_unmoved(prepared)
        try:
            return _train(prepared, lock)
        finally:
            dispatch.use(None)  # answers do not depend on what was measured here


def see_unmoved(prepared: PreparedRun) -> None:
    """Raises: InputError where another process was at the run since it was prepared, and is gone
    again."""
    if checkpoints.newest(prepared.folder / "checkpoints") != prepared.resume:
        raise InputError(
            f"{prepared.folder}: another run went on from here in the meantime; the same "
            "command goes on where it stands now"
        )


def _train(prepared: PreparedRun, lock: Lock | None) -> FitResult:
    recipe, folder = prepared.recipe, prepared.folder
    computing = decide(prepared)
    plan = prepared.choice.record(recipe.trainer)
    write_head(recipe, folder, plan=plan, **computing.written())
    data = batches_of(prepared)
    module = start_module(prepared, data)
    flag = StopFlag()
    watchdog = Watchdog(folder, rank(), recipe.trainer.hang_seconds, recipe.trainer.hang_factor)
    resume, steps, done = prepared.resume, prepared.steps, prepared.done
    shown = progress.stage(prepared.label, steps, done)
    with shown as advance, quiet_lightning(), flag, watchdog:
        together = Together()
        step = StepEnd(data, flag, together)
        callbacks = callbacks_of(prepared, data, lock, step, watchdog, advance)
        pseudo = next(each for each in callbacks if isinstance(each, PseudoLabels))
        callbacks = only_what_they_do(module, [OneRule(computing.factors), *callbacks])
        trainer = make_trainer(prepared, together, callbacks, computing.threads.number)
        keep_lightning_out(trainer)
        step_plainly(trainer)
        if prepared.trainer.cuda_graph:
            step_by_graph(trainer, OnGPU())
        if resume and done >= steps:
            pseudo.audit = read_audit(resume)
        else:
            if is_first():
                forget_final(folder)
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
            done = trainer.global_step
    if step.stopped and done < steps:
        raise Stopped(
            f"{folder}: stopped by a signal at step {done} of {steps} with a good checkpoint"
        )
    if recipe.model.people_memory != "none":
        if is_first():
            with together.alone():
                remember(prepared, checkpoints.find(folder))
        together.agree(trainer.strategy)
    return result_of(folder, pseudo.audit, done)


def callbacks_of(
    prepared: PreparedRun,
    data: ConnectomeData,
    lock: Lock | None,
    step: StepEnd,
    watchdog: Watchdog,
    advance: Callable[..., None],
) -> list[L.Callback]:
    """A run's callbacks, in the order in which they are called."""
    recipe, folder, together = prepared.recipe, prepared.folder, step.together
    validation, meter = Validate(data, step), Meter(data)
    log = Log(folder, lock, together, advance, step, validation, meter)
    return [
        Alike(prepared.choice),
        PhaseSwitch(),
        PseudoLabels(prepared, data, together),
        step,
        validation,
        Finite(folder, step, validation),
        *([BestByTarget(folder, data, step, together)] if prepared.by_target else []),
        log,
        *([Loggers(prepared, log, step, together)] if is_first() else []),
        Save(folder, recipe.trainer, step, validation, together),
        Stop(recipe.trainer.max_steps, step, watchdog),
        meter,
    ]


def make_trainer(
    prepared: PreparedRun, together: Together, callbacks: list[L.Callback], threads: int
) -> L.Trainer:
    """Threads and allocator of this process are set on the way."""
    same_targets = len({phase.active for phase in prepared.opened.phases}) == 1
    return L.Trainer(
        **trainer_arguments(prepared.trainer, prepared.hardware, together, threads, same_targets),
        max_epochs=len(prepared.epoch_steps),
        gradient_clip_val=prepared.recipe.optim.clip_norm,
        callbacks=callbacks,
        profiler=Unprofiled(),
        **OURS,
    )


def batches_of(prepared: PreparedRun) -> ConnectomeData:
    """The run's batches, from its first epoch on."""
    phases, recipe = prepared.opened.phases, prepared.recipe
    return ConnectomeData(
        prepared.opened.sets,
        prepared.opened.source,
        prepared.train,
        prepared.validation,
        lambda epoch: (phase_at(phases, epoch).sets, list(phase_at(phases, epoch).active)),
        recipe.trainer.global_batch,
        recipe.seed,
        recipe.data.window,
        recipe.trainer.accumulate,
    )


def forget_final(folder: Path) -> None:
    """Of weights that are trained further, the final checkpoint says nothing any more."""
    for name in (checkpoints.FINAL, checkpoints.UNSEEN):
        (folder / "checkpoints" / name).unlink(missing_ok=True)


def start_module(prepared: PreparedRun, data: ConnectomeData) -> LCMModule:
    """The module with its first weights: drawn by the recipe's seed, then those of `init_from`."""
    recipe, opened = prepared.recipe, prepared.opened
    torch.manual_seed(recipe.seed)
    module = LCMModule(prepared)
    if module.model.edge_branch is not None:
        set_edge_scale(module, data, prepared.train)
    if opened.start:
        vocabulary, renames = opened.sets.vocabulary, opened.sets.pretrained_renames
        transfer(opened.start, module.model, vocabulary, renames)
    prepare_model(module.model, prepared.trainer, recipe.optim.trains)
    return module


def set_edge_scale(module: LCMModule, data: ConnectomeData, train: np.ndarray) -> None:
    """Centre and scale of the linear branch's edges, from at most 4,096 training scans."""
    assert module.model.edge_branch is not None
    some = train[np.linspace(0, len(train) - 1, min(len(train), 4096)).astype(int)]
    edges = torch.cat([upper(module.inputs(batch)) for batch in data.batches(some, [])])
    module.model.edge_branch.centre.copy_(edges.mean(0))
    # One scale for all edges: the spread between them is information, a constant edge has none.
    module.model.edge_branch.scale.fill_(float(edges.std(0).mean()))


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Our display is the display: Lightning's banners and its advice on data loaders are kept out
    of it."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
