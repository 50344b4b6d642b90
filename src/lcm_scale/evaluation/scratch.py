"""The same model without pretraining, beside the pretrained one: the baseline `scratch`.

In: a recipe that starts from a checkpoint. Its folds, seeds and data are kept; `init_from` goes,
and with it pseudo-labels, which only a pretrained model can give, and adapters, which only stand
on one: then all trains. Out: answers about the same
held-out scans, so that the difference is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lcm_scale.config import LoRAConfig, Recipe
from lcm_scale.config.run import SCRATCH
from lcm_scale.errors import InputError
from lcm_scale.evaluation.harmonise import harmonised
from lcm_scale.inference.predictor import Predictor
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.trained import trained
from lcm_scale.weights import checkpoints

KEY = "evaluate.baselines: scratch"


def check_scratch(recipe: Recipe) -> None:
    """Raises: InputError where nothing is pretrained, or both cannot be trained alike."""
    if SCRATCH not in recipe.evaluate.baselines:
        return
    if not recipe.init_from:
        raise InputError(
            f"{KEY}: is the same model without pretraining, and nothing is pretrained here; set "
            "init_from, or leave it out"
        )
    if recipe.evaluate.protocol == "paper":
        raise InputError(f"{KEY}: not under evaluate.protocol=paper; leave it out")
    if recipe.evaluate.calibration != "none":
        raise InputError(
            f"{KEY}: not with evaluate.calibration, which is of the pretrained model alone; leave "
            "one out"
        )


def without_pretraining(recipe: Recipe) -> Recipe:
    """The recipe of the models from scratch."""
    phases = [replace(phase, pseudo_labels=False) for phase in recipe.phases]
    optim = recipe.optim
    if optim.trainable == "lora":
        optim = replace(optim, trainable="all", lora=LoRAConfig())
    return replace(recipe, init_from=None, phases=phases, optim=optim)


def answers(
    runs: Sequence[PreparedRun],
    train: np.ndarray,
    test: np.ndarray,
    asked: Sequence[tuple[str, tuple[str, ...]]],
) -> list[dict[str, np.ndarray]]:
    """What a fold's models from scratch answer of its held-out scans, their scores averaged: one a
    question, empty where there are no such models.

    Args: train, test: numbers of scans.   asked: as a `Predictor` is asked.
    """
    if not runs:
        return [{} for _ in asked]
    opened = harmonised(runs[0].opened, train, [name for name, _ in asked])
    predictor = Predictor(opened.sets, opened.source, opened.recipe)
    scores = []
    for run in runs:
        result = trained(replace(run, opened=opened))
        model = checkpoints.load(result.checkpoint, harmonised=True)
        scores.append(predictor.answers(model, test, asked))
    return [{SCRATCH: np.mean(same, axis=0)} for same in zip(*scores, strict=True)]
