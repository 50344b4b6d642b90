"""What `cost` plans to be sent, against what real gloo runs send."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "strategies.py"
MODEL = ("model.width=256", "model.layers=4", "model.heads=8", "model.ffn=256")

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def test_each_strategy_moves_the_numbers_that_are_planned() -> None:
    command = [
        sys.executable,
        str(BENCHMARK),
        "--worlds",
        "2",
        "--precision",
        "32-true",
        "--model",
        *MODEL,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["strategy"] for row in rows] == ["ddp", "zero1", "zero2", "zero3"]
    for row in rows:
        planned = row["numbers_planned"]
        # Besides: losses and clipping's norm, a thousand numbers or so.
        assert sum(row["numbers"].values()) == pytest.approx(sum(planned.values()), rel=2e-3), row
        for collective, numbers in planned.items():
            assert row["numbers"][collective] == pytest.approx(numbers, rel=1e-3, abs=1500), row
    # gloo's rings are the ones that are planned where it has the collective: what the wire carried.
    assert rows[0]["sent"] == pytest.approx(rows[0]["sent_planned"], rel=0.02)
