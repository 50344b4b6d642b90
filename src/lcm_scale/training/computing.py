"""How a run computes, where that decides about the last digits of its numbers: kept in its folder,
so that a run that goes on computes as it began."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lcm_scale.errors import InputError
from lcm_scale.hardware import threads as usual_threads
from lcm_scale.hardware import tune
from lcm_scale.hardware.threads import Threads
from lcm_scale.model import dispatch
from lcm_scale.model.dispatch import Factors
from lcm_scale.ranks import is_first, under_slurm
from lcm_scale.terminal import print
from lcm_scale.training.folder import fact_of
from lcm_scale.training.prepare import PreparedRun

KEY = "computing"  # in provenance.json


def computed_before(prepared: PreparedRun) -> Mapping[str, Any]:
    """As the run's folder has it; empty where it begins, or a release wrote it that did not say."""
    if prepared.resume is None:
        return {}
    found = fact_of(prepared.folder, KEY)
    return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Computing:
    """How a run computes.

    Attributes:
        factors: by which `auto` takes a formulation of the attention.
        source: where they are from, in words; empty: they are built in, and nothing else is there.
    """

    threads: Threads
    factors: Factors
    source: str = ""

    def written(self) -> dict[str, Any]:
        """What the folder keeps."""
        facts = {"threads": self.threads.number, "attention": tune.to_json(self.factors)}
        return {KEY: facts}


def decide(prepared: PreparedRun) -> Computing:
    """As the run's folder has it where it goes on, else by recipe, environment and machine; what a
    person should know is said."""
    before = computed_before(prepared)
    threads = choose_threads(prepared, before)
    device = "cuda" if prepared.hardware.accelerator == "gpu" else "cpu"
    factors, source = kept_factors(before), ""
    if factors is None and prepared.resume is None:
        factors, source = tune.load(device, threads.number)
    made = Computing(threads, dispatch.BUILT_IN if factors is None else factors, source)
    say(prepared, made, before)
    return made


def kept_factors(before: Mapping[str, Any]) -> Factors | None:
    """None where the folder has none that can be read."""
    try:
        return tune.from_json(before.get("attention"))
    except InputError:
        return None


def choose_threads(prepared: PreparedRun, before: Mapping[str, Any]) -> Threads:
    """Of this process.  Args: before: as `computed_before` gives it."""
    config = prepared.recipe.trainer
    told = usual_threads.given(config.threads)
    if told is not None:
        return told
    on_gpu = prepared.hardware.accelerator == "gpu"
    here = 1 if under_slurm() or on_gpu else config.devices
    known = before.get("threads")
    return usual_threads.usual(
        usual_threads.ONE_BELOW if on_gpu else prepared.opened.model.width,
        here,
        known if isinstance(known, int) and known > 0 else None,
    )


def say(prepared: PreparedRun, made: Computing, before: Mapping[str, Any]) -> None:
    """How many threads, where a CPU computes and the recipe does not say it, or where they are
    others than before; what `lcm-scale tune` found, where `auto` asks."""
    if not is_first():
        return
    if made.source and prepared.recipe.model.attention == "auto":
        _once(f"model.attention=auto: {made.source}")
    if prepared.hardware.accelerator != "cpu":
        return
    chosen = made.threads
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
