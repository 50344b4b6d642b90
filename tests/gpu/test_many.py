"""Several models as one, on a GPU and on a CPU; and benchmarks/many.py runs end to end, so that no
lent GPU is spent on a slip in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig
from lcm_scale.model.stack import LCMStack

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "many.py"


def test_the_benchmark_of_many_models_runs_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (row,) = json.loads((tmp_path / "many_cpu.json").read_text())["rows"]
    assert row["launches"]["together"] < row["launches"]["alone"]


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("attention", ["absorbed", "flash"])
def test_a_stack_computes_what_its_models_do(device: str, attention: str) -> None:
    """Without dropout, whose masks are drawn for all models at once on a GPU."""
    config = LCMConfig(
        12, (2, 1, 3), width=64, layers=2, heads=4, ffn=64, dropout=0.0, attention=attention
    )
    torch.manual_seed(0)
    models = [LCM(config).to(device) for _ in range(3)]
    fc = torch.randn(3, 5, 12, 12).to(device)
    expected = [model(scans) for model, scans in zip(models, fc, strict=True)]
    for logits in expected:
        logits.square().sum().backward()
    gradients = [model.layers[1].linear1.weight.grad for model in models]
    stack = LCMStack(models)
    logits = stack.logits(fc)
    logits.square().sum().backward()
    stack.hand_out_gradients()
    torch.testing.assert_close(logits, torch.stack(expected, 1), rtol=1e-3, atol=1e-4)
    for model, gradient in zip(models, gradients, strict=True):
        found = model.layers[1].linear1.weight.grad
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-3)
