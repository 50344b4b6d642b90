"""How a run computes, where that decides about the last digits of its numbers: kept in its folder,
so that a run that goes on computes as it began."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any

from lcm_scale.checked import read_object
from lcm_scale.errors import InputError
from lcm_scale.hardware import threads
from lcm_scale.hardware.threads import Threads
from lcm_scale.ranks import is_first, under_slurm
from lcm_scale.terminal import print
from lcm_scale.training.folder import PROVENANCE
from lcm_scale.training.prepare import PreparedRun

KEY = "computing"  # in provenance.json


def computed_before(prepared: PreparedRun) -> Mapping[str, Any]:
    """As the run's folder has it; empty where it begins, or a release wrote it that did not say."""
    if prepared.resume is None:
        return {}
    try:
        found = read_object(prepared.folder / PROVENANCE).get(KEY)
    except InputError:
        return {}
    return found if isinstance(found, Mapping) else {}


def choose_threads(prepared: PreparedRun, before: Mapping[str, Any]) -> Threads:
    """Of this process.  Args: before: as `computed_before` gives it."""
    config = prepared.recipe.trainer
    told = threads.given(config.threads)
    if told is not None:
        return told
    on_gpu = prepared.hardware.accelerator == "gpu"
    here = 1 if under_slurm() or on_gpu else config.devices
    known = before.get("threads")
    return threads.usual(
        threads.ONE_BELOW if on_gpu else prepared.opened.model.width,
        here,
        known if isinstance(known, int) and known > 0 else None,
    )


def say(prepared: PreparedRun, chosen: Threads, before: Mapping[str, Any]) -> None:
    """How many threads, where a CPU computes and the recipe does not say it; and where they are
    others than before."""
    if prepared.hardware.accelerator != "cpu" or not is_first():
        return
    number = f"{chosen.number} thread{'s' * (chosen.number > 1)} ({chosen.why})"
    known = before.get("threads")
    if known is not None and known != chosen.number:
        _once(f"{number}, {known} before: what follows may differ in rounding")
    elif chosen.why != "trainer.threads":
        _once(number)


@functools.cache
def _once(text: str) -> None:
    """Folds are runs of one process."""
    print(text, file=sys.stderr)


def written(chosen: Threads, **more: Any) -> dict[str, Any]:
    """What the folder keeps."""
    return {KEY: {"threads": chosen.number, **more}}
