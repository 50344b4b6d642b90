"""Points that differ in epochs alone share the stable part of a warm-up-stable-decay schedule.

Up to where its decay begins a run does not know how long it will be. So a point starts from the run
of fewer epochs whose decay began last, if that one has come so far, and else from nothing: its
result is the same to the last bit, and it counts as a whole run of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from lcm_scale.files import sync_folder
from lcm_scale.sweep.points import SHORT, Point, Sweep
from lcm_scale.training.schedule import decay_epoch
from lcm_scale.weights.checkpoints import STABLE, unsound


def trunk_of(
    sweep: Sweep, point: Point, among: Iterable[Point], ready: Callable[[Point], bool]
) -> tuple[Point | None, int]:
    """The run that a point can start from and the epochs that it is spared; (None, 0) where there
    is none.

    Args: among: points to choose from.   ready: whether one's stable part is there.
    """
    optim = sweep.recipe_of(point).optim
    if point.is_baseline or optim.schedule != "wsd":
        return None, 0
    spared = [
        (decay_epoch(optim, other.epochs), other)
        for other in among
        if other.epochs < point.epochs
        and _but_for_epochs(other) == _but_for_epochs(point)
        and ready(other)
    ]
    epochs, best = max(spared, key=lambda pair: pair[0], default=(0, None))
    return (best, epochs) if best and epochs else (None, 0)


def start_from_trunk(sweep: Sweep, point: Point) -> None:
    """Lay a trunk's checkpoint and log into a point's folder, where it has none of its own yet."""
    folder = sweep.folder_of(point)
    if (folder / "checkpoints").is_dir():
        return
    trunk, _ = trunk_of(sweep, point, sweep.points, lambda other: _is_kept(sweep.folder_of(other)))
    if trunk is None:
        return
    stable = sweep.folder_of(trunk) / STABLE
    shutil.copy2(stable / "log.jsonl", folder / "log.jsonl")
    aside = folder / ".checkpoints-aside"
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(stable / "checkpoints", aside)
    aside.rename(folder / "checkpoints")
    sync_folder(folder)


def _is_kept(folder: Path) -> bool:
    return any(not unsound(file) for file in (folder / STABLE / "checkpoints").glob("step-*.ckpt"))


def _but_for_epochs(point: Point) -> Point:
    key = SHORT["epochs"]
    return replace(
        point,
        name="",
        epochs=0,
        overrides=tuple(o for o in point.overrides if not o.startswith(f"{key}=")),
    )
