"""Steps that a GPU launches as one CUDA graph, against its plain ones. What a graph keeps and what
comes before it, tests/training/test_graph.py shows on a CPU, bit for bit; here is what that cannot
show: that a GPU's libraries can be recorded. On a CPU both runs take plain steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lcm_scale.config import Recipe
from lcm_scale.training import fit as run

ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
USUAL = ["model.attention=absorbed", "model.dropout=0.2", "optim.clip_norm=0.5"]


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "log.jsonl").open())
    return [line["loss"] for line in lines if line["event"] == "step"]


@pytest.mark.parametrize(
    ("device", "more"),
    [
        ("cpu", USUAL),
        *(
            pytest.param("cuda", more, marks=ON_GPU)
            for more in (
                USUAL,
                ["model.attention=flash", "optim.state=bf16", "model.edge_branch=true"],
                ["model.attention=projected", "trainer.precision=32-true"],
                ["trainer.compile=true"],
            )
        ),
    ],
)
def test_a_run_of_recorded_steps_gives_the_plain_runs_losses_and_goes_on_by_either(
    device: str, more: list[str], recipe: Callable[..., Recipe]
) -> None:
    more = [*more, f"trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}"]
    recorded = f"trainer.cuda_graph={str(device == 'cuda').lower()}"
    plain = losses(run.pretrain(recipe("name=plain", "optim.warmup_steps=15", *more)))
    for name, steps in (("ours", 20), ("parts", 8)):
        words = [f"name={name}", f"trainer.max_steps={steps}", "optim.warmup_steps=15", recorded]
        folder = run.pretrain(recipe(*words, *more))
        assert losses(folder) == pytest.approx(plain[:steps], rel=1e-3)
    whole = run.pretrain(recipe("name=parts", "optim.warmup_steps=15", *more))
    assert losses(whole) == pytest.approx(plain, rel=1e-3)
