"""Three ways of the embedding's batch norm on a CPU, side by side by width.

    OMP_NUM_THREADS=1 python benchmarks/norm.py     # into benchmarks/results/norm.json, a minute
    python benchmarks/norm.py --threads 2           # beside it: norm_2threads.json

A round takes forward and backward of the whole embedding (linear map, norm, LeakyReLU) each way in
turn; a figure is the median of the rounds. `passes`: one operation after the other, which is what
several ranks and padded scans take below the widths of `inputs`. `torch`: torch's kernels between
map and LeakyReLU. `inputs`: mean and variance from the covariance of the map's inputs. With one
thread it is processor time, which others' load hardly touches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from lcm_scale.hardware.allocator import keep_freed_memory
from lcm_scale.model import batchnorm
from lcm_scale.model.lcm import FCEmbedding
from lcm_scale.model.presets import LCMConfig
from model import REGIONS, RESULTS, device_name  # benchmarks/model.py

WAYS = ("passes", "torch", "inputs")
# Width and scans: small models at their batch, large ones at a batch that a CPU takes.
CASES = ((64, 8), (128, 8), (48, 64), (64, 64), (128, 64), (256, 64), (512, 64), (1024, 16))
CASES += ((2048, 16),)


def take(way: str) -> None:
    """One way for every width."""
    never = 1 << 30
    batchnorm.FROM_INPUTS = dict.fromkeys((False, True), 0 if way == "inputs" else never)
    batchnorm._is_plain = lambda *_: way == "torch"  # type: ignore[assignment]


def compare(width: int, scans: int, half: bool, rounds: int) -> dict[str, float]:
    """Milliseconds of each way."""
    torch.manual_seed(0)
    module = FCEmbedding(LCMConfig(REGIONS, (7,), width=width, heads=4))
    fc, valid = torch.randn(scans, REGIONS, REGIONS), torch.ones(scans)
    dtype = torch.bfloat16 if half else torch.float32
    gradient = torch.randn(scans, REGIONS, width).to(dtype)
    repeats = 2 if scans == 64 else 8
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for way in WAYS:
            take(way)
            start = clock()
            for _ in range(repeats):
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    memory = module(fc, valid)
                memory.backward(gradient)
                module.zero_grad()
            if number:
                taken[way].append(1e3 * (clock() - start) / repeats)
    return {way: float(f"{statistics.median(times):.4g}") for way, times in taken.items()}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--out", type=Path, default=RESULTS)
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for half in (False, True):
        for width, scans in CASES:
            row = {"precision": "bf16" if half else "fp32", "width": width, "scans": scans}
            rows.append({**row, "ms": compare(width, scans, half, asked.rounds)})
            print(rows[-1], file=sys.stderr)
    result = {
        "device": device_name("cpu"),
        "torch": torch.__version__,
        "threads": asked.threads,
        "command": "python benchmarks/norm.py " + " ".join(sys.argv[1:]),
        "rows": rows,
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    name = "norm.json" if asked.threads == 1 else f"norm_{asked.threads}threads.json"
    path = asked.out / name
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
