"""The nested protocol for several divisions into folds, each with models of another seed, so that
the interval covers the luck of both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from lcm_scale.config import Recipe
from lcm_scale.config.run import LARGEST_SEED
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.evaluation.protocols import nested
from lcm_scale.evaluation.protocols.plan import Plan, several

ROUNDS = 5  # where the recipe names no seeds: those from evaluate.seed on


def plan(recipe: Recipe, sets: ShardSets) -> Plan:
    """`evaluate.folds` folds for each seed.  Raises: InputError as of `nested`, and where fewer
    than two seeds, or one twice, are named."""
    seeds = _seeds(recipe)
    of_rounds = [
        nested.plan(replace(recipe, evaluate=replace(recipe.evaluate, seed=seed)), sets)
        for seed in seeds
    ]
    config = recipe.evaluate
    spread = f", spread evenly over {config.stratify}" if config.stratify else ""
    return replace(
        of_rounds[0],
        folds=tuple(fold for one in of_rounds for fold in one.folds),
        rounds=tuple(number for number, one in enumerate(of_rounds) for _ in one.folds),
        sentence=(
            f"Repeated nested cross-validation: {config.folds} outer folds by person{spread}, for "
            f"{len(seeds)} divisions (seeds {', '.join(map(str, seeds))}), each with models of "
            f"another seed; in each fold {recipe.data.validation:.0%} of the training people "
            f"choose the epoch, and the held-out people are read once.{several(recipe)} "
            "Baselines are tuned by inner cross-validation on the same training people."
        ),
        brackets=(
            "Brackets are 95 % intervals that cover the division into folds and the seed of "
            f"training: a corrected resampled t-test (Nadeau and Bengio 2003) over "
            f"{len(seeds) * config.folds} folds. A value is the mean over folds, each by itself."
        ),
        read_as=(
            f"each predicted once in each of {len(seeds)} divisions, by models that never saw the "
            "person"
        ),
    )


def _seeds(recipe: Recipe) -> list[int]:
    config = recipe.evaluate
    if not config.fold_seeds:
        first = min(config.seed, LARGEST_SEED - ROUNDS + 1)
        return [*range(first, first + ROUNDS)]
    seeds = list(config.fold_seeds)
    twice = [seed for seed, count in Counter(seeds).items() if count > 1]
    if len(seeds) < 2 or twice:
        what = f"{twice[0]} stands twice" if twice else "one division shows no spread"
        raise InputError(f"evaluate.fold_seeds={seeds}: {what}; name at least two different seeds")
    return seeds
