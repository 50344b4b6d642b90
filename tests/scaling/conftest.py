"""A real sweep of tiny models on the small simulated set, run once for all tests that read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.sweep import run as sweeps
from lcm_scale.sweep.plan import Plan, plan
from lcm_scale.sweep.points import open_sweep

RUN = """
name: run
data: {{sets: [first], targets: [diagnosis, age], shards_dir: {world}/shards, validation: 0.2}}
model: {{preset: tiny}}
objective: {{scalar_scale: standardised, scalar_weight: 1.0}}
phases: [{{name: adaptive, epochs: 2}}]
trainer: {{global_batch: 8, threads: 1, accelerator: cpu}}
evaluate: {{target: diagnosis, folds: 4, stratify: diagnosis, baselines: [linear]}}
"""
SWEEP = """
name: sizes
runs_dir: {folder}/runs
recipe: run
axes: {{size: [8x1, 16x1, 16x2, 32x2], subjects: [12, 16, 20], epochs: [2]}}
also: [{{size: [8x1], subjects: [20], epochs: [2], seed: [1], draw: [0]}}]
baselines: [linear]
fit: {{bootstrap: 20}}
"""


def write_sweep(folder: Path, world: Path, text: str = SWEEP) -> Path:
    (folder / "run.yaml").write_text(RUN.format(world=world))
    (folder / "sweep_sizes.yaml").write_text(text.format(folder=folder))
    return folder / "sweep_sizes.yaml"


@pytest.fixture
def make_sweep(world: Path, tmp_path: Path) -> Callable[..., Plan]:
    """`make_sweep("axes.seed=[0,1]", ...)`: the tiny sweep in a folder of its own, nothing run."""

    def make(*overrides: str, text: str = SWEEP) -> Plan:
        return plan(open_sweep(write_sweep(tmp_path, world, text), overrides))

    return make


@pytest.fixture(scope="session")
def finished(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sweep's recipe, all its points finished; tests read it and leave it as it is."""
    recipe = write_sweep(tmp_path_factory.mktemp("sweep"), world)
    made = plan(open_sweep(recipe))
    for point in made.runnable:
        sweeps.run_one(made.sweep, point)
    return recipe
