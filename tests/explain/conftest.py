"""A simulated set with one strong effect and one label that is pure noise, and its evaluated run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.config import Recipe
from lcm_scale.evaluation.crossvalidate import evaluate
from lcm_scale.evaluation.prepare import prepare_evaluation


@pytest.fixture(scope="session")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, recipe_into: Callable[..., Recipe], make_set
) -> Path:
    """The folder of a run on 60 people: diagnosis is planted in three regions, sex in none."""
    folder = tmp_path_factory.mktemp("explain")
    effects = ["simulation.group_effect=0.4", "simulation.sex_effect=0", "simulation.seed=5"]
    make_set(folder, "planted", ["simulation.subjects=60", *effects])
    asked = [
        "data=planted",
        f"data.shards_dir={folder}/shards",
        "data.targets=[diagnosis,sex]",
        "model.people_memory=linear",
        "phases=[{name: only, epochs: 1}]",
        "evaluate.target=diagnosis",
        "evaluate.folds=3",
        "evaluate.baselines=[]",
        "evaluate.bootstrap=10",
    ]
    evaluate(prepare_evaluation(recipe_into(folder, *asked)))
    return folder / "runs" / "run"
