"""Where a run's numbers also go, by the names of `trainer.loggers`: Lightning's loggers, set up so
that a run that goes on stays one run there, and nothing says who was scanned or where data lie.

`log.jsonl` is the one record; these are copies. `csv` is `metrics.csv`, which is made from the log.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lcm_scale.checked import read_object
from lcm_scale.config import Recipe
from lcm_scale.config.fields import dotted
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic
from lcm_scale.provenance import versions

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

RUNS = "loggers.json"  # in a run's folder: logger -> the id that the run has there
PROJECT = "lcm-scale"  # where the environment names no project or experiment
# name -> what is imported, and what installs it
NEEDS = {
    "tensorboard": ("tensorboard", "pip install 'lcm-scale[loggers]'"),
    "wandb": ("wandb", "pip install wandb"),
    "mlflow": ("mlflow", "pip install mlflow"),
}
# Of the recipe what may leave the machine: no paths, no names of sets, nothing of `evaluate`.
TOLD = ("seed", "model", "optim", "objective", "trainer", "data.edges", "data.validation")


def check_loggers(names: Iterable[str]) -> None:
    """Raises: InputError where what a logger needs is not installed."""
    for name in names:
        module, command = NEEDS.get(name, ("", ""))
        if module and importlib.util.find_spec(module) is None:
            raise InputError(f"trainer.loggers: {name} is not installed; {command}")


def make_logger(name: str, recipe: Recipe, folder: Path, done: int) -> Logger:
    """One of Lightning's loggers; nothing is opened or sent before its `experiment` is asked for.

    Args:
        name: one of `NEEDS`.   folder: the run's.
        done: steps that the checkpoint has which the run goes on from; 0: none.
    """
    from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

    if name == "tensorboard":
        # What a killed run wrote behind its checkpoint is hidden: those steps come again.
        again: dict[str, Any] = {"purge_step": done + 1} if (folder / name).is_dir() else {}
        return TensorBoardLogger(
            folder, name, version="", default_hp_metric=False, flush_secs=15, **again
        )
    known = known_runs(folder).get(name)
    if name == "mlflow":
        return MLFlowLogger(
            os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
            run_name=recipe.name,
            # Where no server is named, a file of the run: MLflow writes into folders no more.
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI")
            or f"sqlite:///{folder.absolute() / 'mlflow.db'}",
            tags={"mlflow.source.name": PROJECT},  # else the path of the console script
            run_id=known,
        )
    import wandb

    return WandbLogger(
        name=recipe.name,
        save_dir=folder,
        version=known,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        # Command lines, code and the terminal's text hold paths, and may hold ids.
        settings=wandb.Settings(
            console="off", x_disable_meta=True, disable_git=True, disable_code=True
        ),
    )


def known_runs(folder: Path) -> dict[str, str]:
    """Logger -> the id that a run has there.  Raises: InputError where the file is damaged."""
    file = folder / RUNS
    known = read_object(file) if file.is_file() else {}
    return {name: value for name, value in known.items() if isinstance(value, str)}


def remember_run(folder: Path, name: str, run: str) -> None:
    """Write down the id that a run has in a logger, so that it goes on there."""
    write_atomic(folder / RUNS, json.dumps(known_runs(folder) | {name: run}).encode())


def told_of(recipe: Recipe) -> dict[str, Any]:
    """What loggers are told of a recipe: what was trained and how, not on whom or where."""
    flat = dotted(asdict(recipe))
    told = {key: value for key, value in flat.items() if key.startswith(tuple(TOLD))}
    phases = ", ".join(f"{phase.name} ({phase.epochs} epochs)" for phase in recipe.phases)
    return {**told, "phases": phases, "version": versions()["lcm_scale"]}
