"""What a step of DDP takes that looks for unused weights, over one that learnt them at its first
step (a static graph): two ranks of this CPU, by gloo.

    python benchmarks/ddp.py     # into benchmarks/results/ddp_cpu.json, in half a minute

Each rank holds the same model twice, spread as `trainer.strategy=ddp` spreads it where all phases
train the same targets and where they do not. A round takes a step of each (forward, backward,
optimiser), one after the other, so that what else the machine does meets both; given are the
medians of the rounds' times and of their ratios, by the clock and by the first rank's processor
time. On a GPU the host also waits for the device to learn which weights were used: of that a CPU
shows nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from launches import config_of, terms_of  # benchmarks/launches.py
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lcm_scale.config import TrainerConfig
from lcm_scale.model.lcm import LCM
from lcm_scale.objectives import losses, read
from lcm_scale.training.optimizer import TwoStage
from lcm_scale.training.parallel.strategy import Hardware, trainer_arguments
from lcm_scale.training.together import Together
from model import REGIONS, RESULTS, device_name  # benchmarks/model.py

RANKS, TOKENS = 2, 7
WAYS = {"static": True, "looking": False}  # whether all phases train the same targets


class WithLoss(nn.Module):
    def __init__(self, preset: str) -> None:
        super().__init__()
        self.model, self.terms = LCM(config_of(preset, "absorbed", TOKENS)), terms_of(TOKENS)

    def forward(self, fc: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        logits = self.model(fc, None, torch.ones(len(fc)))
        values = read(logits, labels, self.terms, "adaptive")
        return losses(values, labels, weights, self.terms).sum()


def spread(preset: str, same_targets: bool) -> DistributedDataParallel:
    """As a run spreads it."""
    torch.manual_seed(0)
    config = TrainerConfig(strategy="ddp", devices=RANKS)
    made = trainer_arguments(config, Hardware("cpu", "32-true"), Together(), 1, same_targets)
    return DistributedDataParallel(WithLoss(preset), **made["strategy"]._ddp_kwargs)


def rank_main(rank: int, port_file: str, out: str, asked: argparse.Namespace) -> None:
    store = dist.FileStore(port_file, RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    rows = []
    for batch in asked.batches:
        models = {way: spread(asked.preset, same) for way, same in WAYS.items()}
        optimizers = {way: TwoStage(model.parameters()) for way, model in models.items()}
        share = batch // RANKS
        fc = torch.rand(share, REGIONS, REGIONS)
        labels, weights = torch.zeros(share, 3), torch.full((share, 3), 1 / batch)
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for turn in range(asked.rounds + asked.before):
            for way, model in sorted(models.items(), reverse=turn % 2 == 1):
                dist.barrier()
                began = time.perf_counter(), time.process_time()
                model(fc, labels, weights).backward()
                optimizers[way].step()
                optimizers[way].zero_grad()
                ended = time.perf_counter(), time.process_time()
                times[way].append((ended[0] - began[0], ended[1] - began[1]))
        kept = {way: values[asked.before :] for way, values in times.items()}
        rows.append({"batch": batch, "clock": compared(kept, 0), "processor": compared(kept, 1)})
    if rank == 0:
        Path(out).write_text(json.dumps(rows), encoding="utf-8")
    dist.destroy_process_group()


def compared(times: dict[str, list[tuple[float, float]]], which: int) -> dict[str, Any]:
    of = {way: [pair[which] for pair in pairs] for way, pairs in times.items()}
    ratios = [a / b for a, b in zip(of["looking"], of["static"], strict=True)]
    return {
        **{f"{way}_ms": round(statistics.median(own) * 1e3, 2) for way, own in of.items()},
        "looking_over_static": round(statistics.median(ratios), 3),
        "quartiles": [round(value, 3) for value in statistics.quantiles(ratios, n=4)[::2]],
    }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--preset", default="tiny")
    options.add_argument("--batches", type=int, nargs="+", default=[16, 128])
    options.add_argument("--rounds", type=int, default=100)
    options.add_argument("--before", type=int, default=10, help="rounds that do not count")
    options.add_argument("--out", type=Path, default=RESULTS)
    asked = options.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        found = Path(name) / "rows.json"
        processes.spawn(rank_main, (f"{name}/store", str(found), asked), nprocs=RANKS)
        rows: list[dict[str, Any]] = json.loads(found.read_text(encoding="utf-8"))
    for row in rows:
        print(json.dumps(row))
    result = {
        "processor": device_name("cpu"),
        "torch": torch.__version__,
        "ranks": RANKS,
        "threads": 1,
        "preset": asked.preset,
        "tokens": TOKENS,
        "command": "python benchmarks/ddp.py " + " ".join(sys.argv[1:]),
        "rows": rows,
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "ddp_cpu.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
