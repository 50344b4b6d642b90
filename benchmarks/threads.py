"""How many threads a model of some width wants, alone and beside another job.

    python benchmarks/threads.py

Training steps of two layers at 64 scans: one process with one thread and with all of the machine's,
then as many processes at once as the machine has cores, each with one thread and each with all. A
figure is steps a second of one process, the least of its rounds where it is alone. Wall time: run it
on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import torch

from lcm_scale.hardware.allocator import keep_freed_memory
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig
from lcm_scale.training.optimizer import TwoStage
from model import device_name

REGIONS, BATCH = 116, 64
WIDTHS = {64: 4, 128: 4, 256: 8, 512: 8}  # and heads


def steps_a_second(width: int, tokens: int, threads: int, seconds: float) -> float:
    torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(0)
    model = LCM(
        LCMConfig(REGIONS, (tokens,), width=width, layers=2, heads=WIDTHS[width], ffn=width)
    )
    optimizer, fc = TwoStage(model.parameters()), torch.rand(BATCH, REGIONS, REGIONS)

    def step() -> None:
        optimizer.zero_grad()
        model(fc).float().square().mean().backward()
        optimizer.step()

    for _ in range(2):
        step()
    start, taken = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        step()
        taken += 1
    return taken / spent


def measure(width: int, tokens: int, seconds: float) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    row: dict[str, Any] = {"width": width, "tokens": tokens}
    for threads in (1, cores):
        for processes in (1, cores):
            with multiprocessing.get_context("spawn").Pool(processes) as pool:
                work = [(width, tokens, threads, seconds)] * processes
                found = pool.starmap(steps_a_second, work, chunksize=1)
            row[f"{processes} processes, {threads} threads"] = min(found)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tokens", type=int, default=7)
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/threads.json")
    arguments = parser.parse_args()
    rows = []
    for width in arguments.widths:
        rows.append(measure(width, arguments.tokens, arguments.seconds))
        print(json.dumps(rows[-1]), flush=True)
    found = {"processor": device_name("cpu"), "torch": torch.__version__, "rows": rows}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
