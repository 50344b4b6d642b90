"""benchmarks/gpu.py runs end to end, so that no lent GPU is spent on a slip in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_the_gpus_benchmark_runs_on_a_cpu_and_says_how_far_its_goals_are(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--quick", "--tokens", "7", "--out", str(tmp_path)]
    command = [sys.executable, str(BENCHMARK), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "times the published fp32 step (goal 10), MFU" in done.stdout
    (file,) = tmp_path.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    assert [(row["precision"], "mfu" in row) for row in rows] == [("fp32", False), ("bf16", True)]
