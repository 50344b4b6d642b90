"""The recipe of an ablation: one run recipe, and variants of it that differ in one part each.

Loaded by `config.load(AblationRecipe, path, overrides)`, as every recipe is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lcm_scale.config.fields import FILLED, RUN_NAME, between, free, text, texts
from lcm_scale.config.run import LARGEST_SEED


@dataclass
class AblationRecipe:
    """One base and its variants, evaluated on the same folds by the base's own protocol."""

    name: str = text(RUN_NAME, "")  # of its folder under runs_dir
    title: str = free("")  # heading of the report; default: the name
    runs_dir: str = text(FILLED, "runs")  # where its runs lie
    recipe: str = free("")  # the base: a run recipe's file, found beside this one
    overrides: list[str] = texts(unique=False)  # key=value, on that recipe
    # more of them, laid over those: what a command line adds
    set: list[str] = texts(unique=False)
    shards_dir: str = free("")  # of that recipe, where it is another
    # of weights and batches: the base and every variant is trained with each
    seeds: list[int] = between(0, LARGEST_SEED, [0, 1, 2])
    # name -> keys of the run recipe and what they are in this variant; null leaves it out
    variants: dict[str, Any] = free({})
