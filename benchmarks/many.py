"""Several models of one shape as one batched model, beside the same models one after the other.

    python benchmarks/many.py                  # CPU, one thread and two: into benchmarks/results/
    python benchmarks/many.py --device cuda    # a GPU: what launches take, at tiny and 147m
    python benchmarks/many.py --quick --out FOLDER

A round takes a whole training step (forward, backward, optimiser, dropout on) of each of K models,
first one by one and then as a stack, so that what else the machine does meets both; a figure is the
median of the rounds, per model and step. Launches are those of a step of all K on a GPU, dropout on,
counted without one (fake_gpu.py), each count in a process of its own. Lightning and bookkeeping, of
which K runs have K times as much, are in neither.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_gpu  # benchmarks/fake_gpu.py
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lcm_scale.hardware.allocator import keep_freed_memory
from lcm_scale.model.dispatch import choose
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import PRESETS, LCMConfig
from lcm_scale.model.stack import LCMStack
from lcm_scale.training.optimizer import TwoStage, step_together
from model import REGIONS, RESULTS, device_name, synchronise  # benchmarks/model.py

# Shapes: name -> what `LCMConfig` is told. 128x2 is recipes/abide_small.yaml.
SHAPES = {
    "tiny": {"width": 64, "layers": 2, "heads": 4, "ffn": 64},
    "128x2": {"width": 128, "layers": 2, "heads": 4, "ffn": 128},
    "147m": {"layers": PRESETS["147m"].layers},
}


class Models:
    """K models with their optimisers, and a step of them in both ways."""

    def __init__(self, config: LCMConfig, K: int, batch: int, device: str, bf16: bool) -> None:
        torch.manual_seed(0)
        with torch.device(device):
            self.alone = [LCM(config) for _ in range(K)]
            apart = [LCM(config) for _ in range(K)]
            self.fc = torch.rand(K, batch, REGIONS, REGIONS)
            self.valid = torch.ones(K, batch)
        self.optimizers = [TwoStage(m.parameters(), lr=1e-5) for m in self.alone]
        self.stack = LCMStack(apart)
        self.together = [TwoStage(m.parameters(), lr=1e-5) for m in apart]
        self.device, self.bf16 = device, bf16
        self.generators = [torch.Generator() for _ in range(K)] if device == "cpu" else None

    def loss(self, work: Callable[[], Tensor]) -> Tensor:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            return work().float().mean(0).square().mean()

    def one_by_one(self) -> None:
        for g, (model, optimizer) in enumerate(zip(self.alone, self.optimizers, strict=True)):
            self.loss(lambda m=model, g=g: m(self.fc[g], None, self.valid[g])).backward()
            optimizer.step()
            optimizer.zero_grad()

    def as_one(self) -> None:
        self.loss(lambda: self.stack.logits(self.fc, None, self.valid, self.generators)).backward()
        self.stack.hand_out_gradients()
        step_together(self.together)
        for optimizer in self.together:
            optimizer.zero_grad()


def compare(
    config: LCMConfig, K: int, batch: int, device: str, rounds: int, bf16: bool
) -> dict[str, float]:
    models = Models(config, K, batch, device, bf16)
    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    for number in range(rounds + 1):
        for name, work in (("alone", models.one_by_one), ("together", models.as_one)):
            synchronise(models.fc)
            start = time.perf_counter()
            work()
            synchronise(models.fc)
            if number:  # in the first, kernels and optimiser state are made
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(taken) / K for name, taken in seconds.items()}


@functools.cache
def count_apart(config: LCMConfig, K: int, bf16: bool) -> dict[str, int]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(count, config, K, bf16).result()


def count(config: LCMConfig, K: int, bf16: bool) -> dict[str, int]:
    """Launches of a step of all models in both ways, which do not depend on the batch; changes the
    process that counts."""
    fake_gpu.install()
    mode = FakeTensorMode()
    with mode:
        models = Models(config, K, 2, fake_gpu.NAME, bf16)
    found = {}
    for name, work in (("alone", models.one_by_one), ("together", models.as_one)):
        with mode, fake_gpu.Recorder() as recorder:
            for recorder.part in ("first", "step"):  # the first makes the optimisers' state
                fake_gpu.CASTS.clear()
                work()
        found[name] = recorder.of("step")
    return found


def config_of(shape: str, tokens: int, batch: int, device: str, bf16: bool) -> LCMConfig:
    """With the formulation that runs there, so that it is the one that is counted."""
    config = LCMConfig(REGIONS, (tokens,), **SHAPES[shape])  # type: ignore[arg-type]
    dtype = torch.bfloat16 if bf16 else torch.float32
    taken = choose(batch, tokens, REGIONS, config.width, config.heads, device, dtype)
    return replace(config, attention=taken)


def rows(asked: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for shape in asked.shapes:
        for batch in asked.batch:
            for K in asked.models:
                config = config_of(shape, asked.tokens, batch, asked.device, asked.bf16)
                launches = count_apart(config, K, asked.bf16)
                for threads in asked.threads:
                    torch.set_num_threads(threads)
                    taken = compare(config, K, batch, asked.device, asked.rounds, asked.bf16)
                    row = {
                        "shape": shape,
                        "tokens": asked.tokens,
                        "batch": batch,
                        "models": K,
                        "threads": threads,
                        "formulation": config.attention,
                        "ms_a_model_step": {k: float(f"{v:.4g}") for k, v in taken.items()},
                        "times_faster": round(taken["alone"] / taken["together"], 2),
                        "launches": launches,
                    }
                    found.append(row)
                    print(
                        f"{shape} M={asked.tokens} batch {batch}, {K} models, {threads} threads: "
                        f"{row['times_faster']} times faster, launches {launches['alone']} -> "
                        f"{launches['together']}",
                        file=sys.stderr,
                    )
    return found


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--quick", action="store_true", help="the tiny model, one round")
    options.add_argument("--shapes", nargs="+", choices=list(SHAPES))
    options.add_argument("--models", type=int, nargs="+", default=[2, 5, 10])
    options.add_argument("--tokens", type=int, default=7)
    options.add_argument("--batch", type=int, nargs="+")
    options.add_argument("--threads", type=int, nargs="+")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--bf16", action="store_true")
    options.add_argument("--out", type=Path, default=RESULTS)
    asked = options.parse_args()
    on_gpu = asked.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        sys.exit("no GPU here: --device cpu measures CPUs, --quick tries the code")
    asked.shapes = asked.shapes or (["tiny", "147m"] if on_gpu else ["tiny", "128x2"])
    asked.batch = asked.batch or ([64] if on_gpu else [8, 64])
    asked.threads = asked.threads or ([1] if on_gpu else [1, 2])
    if asked.quick:
        asked.shapes, asked.batch, asked.models, asked.rounds = ["tiny"], [2], [2], 1
        asked.threads = [1]
    keep_freed_memory()
    result = {
        "device": device_name(asked.device),
        "torch": torch.__version__,
        "precision": "bf16" if asked.bf16 else "fp32",
        "load_before": os.getloadavg()[0],
        "command": "python benchmarks/many.py " + " ".join(sys.argv[1:]),
        "rows": rows(asked),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / f"many_{asked.device}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
