"""What each strategy sends and holds, counted in real gloo runs beside what `lcm-scale cost` plans.

Bytes sent are counted twice: the numbers that each collective moves, from the profiler, and the
bytes that the loopback device carried. Memory is torch's own: live tensors before a step and the
most that the step allocated on top, so that neither a C library's habits nor imports count.
Simulated people; the model's weights are what matters here.

    python benchmarks/strategies.py --out benchmarks/results/strategies.json
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer import Trainer
from torch.profiler import ProfilerActivity, profile

from lcm_scale.cli import app as cli
from lcm_scale.config import Recipe, load
from lcm_scale.cost.count import cost, memory
from lcm_scale.cost.placement import COLLECTIVES, STRATEGIES, card_bytes, sent_bytes
from lcm_scale.model.presets import LCMConfig

ROOT = Path(__file__).parents[1]
FROM, TO = 2, 5  # steps: DDP lays its buckets out anew in the first ones
RESULT = "LCM_STRATEGY_RESULT"


class Count(L.Callback):
    """Counts collectives, loopback bytes and memory over some steps; each rank writes its own
    file."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == FROM:
            self.live = live_bytes()
            torch.distributed.barrier()
            self.loopback = loopback_bytes()
            self.profile = profile(
                activities=[ProfilerActivity.CPU], record_shapes=True, profile_memory=True
            )
            self.profile.start()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step != TO:
            return
        torch.distributed.barrier()
        loopback = loopback_bytes() - self.loopback
        self.profile.stop()
        now = most = 0
        for event in sorted(
            self.profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()
        ):
            if event.name() == "[memory]":
                now += event.nbytes()
                most = max(most, now)
        row = {
            "sent": loopback / (TO - FROM) / trainer.world_size,
            "numbers": {k: v / (TO - FROM) for k, v in self.collectives().items()},
            "memory": self.live + most,
        }
        Path(f"{os.environ[RESULT]}.{trainer.global_rank}").write_text(json.dumps(row))

    def collectives(self) -> Counter[str]:
        """Numbers that each collective moves; a gather's are those of all ranks."""
        numbers: Counter[str] = Counter()
        for event in self.profile.events():
            sizes = [torch.Size(shape).numel() for shape in event.input_shapes if shape]
            if event.name in ("gloo:all_reduce", "gloo:reduce"):
                numbers[event.name.removeprefix("gloo:")] += sum(sizes)
            elif event.name == "c10d::_allgather_base_":
                numbers["all_gather"] += max(sizes)
            elif event.name == "c10d::_reduce_scatter_base_":
                # gloo has none: it reduces everything everywhere, and keeps a part
                numbers["reduce_scatter"] += max(sizes)
                numbers["all_reduce"] -= max(sizes)
        return numbers


def live_bytes() -> int:
    """Bytes of all tensors that there are."""
    tensors = (
        o for o in gc.get_objects() if isinstance(o, torch.Tensor) and o.device.type == "cpu"
    )
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def loopback_bytes() -> int:
    line = next(
        line
        for line in Path("/proc/net/dev").read_text().splitlines()
        if line.strip().startswith("lo:")
    )
    return int(line.split()[9])


def rank_main() -> None:
    """The command line, with one more callback; Lightning starts the other ranks with the same
    words."""
    build = Trainer.__init__

    def with_count(self: Trainer, *positional: Any, **named: Any) -> None:
        named["callbacks"] = [*(named.get("callbacks") or []), Count()]
        build(self, *positional, **named)

    Trainer.__init__ = with_count  # type: ignore[method-assign]
    cli.main()


def statistics(model: LCMConfig) -> int:
    """Numbers that the embedding's norm sums over the ranks in a step: how many rows, their mean
    and covariance, and the gradient of the scale."""
    return 1 + model.n_regions + model.n_regions**2 + model.width


def measure(
    folder: Path, strategy: str, world: int, precision: str, model: list[str]
) -> dict[str, Any]:
    """Run some steps and put what was counted beside what is planned."""
    name = f"{strategy}-{world}-{precision}"
    run = [
        f"name={name}",
        f"runs_dir={folder}/runs",
        f"data.shards_dir={folder}/shards",
        "data=[strategies]",
        "model.edge_branch=false",
        f"trainer.strategy={strategy}",
        f"trainer.devices={world}",
        "trainer.threads=1",
        f"trainer.max_steps={TO + 1}",
        "trainer.accelerator=cpu",
        f"trainer.precision={precision}",
        "trainer.global_batch=16",
        *model,
    ]
    recipe = load(Recipe, ROOT / "recipes" / "demo.yaml", run)
    result = folder / name
    environment = {**os.environ, RESULT: str(result), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "pretrain", str(ROOT / "recipes" / "demo.yaml"), *run]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    ranks = [json.loads(Path(f"{result}.{rank}").read_text()) for rank in range(world)]
    counted = cost(recipe)
    kept = memory(counted.model, precision, counted.device_batch)
    planned = card_bytes(kept, counted.parameters, strategy, world)
    numbers = {k: v * counted.parameters for k, v in COLLECTIVES[strategy].items()}
    numbers["all_reduce"] = numbers.get("all_reduce", 0) + statistics(counted.model)
    most = max(rank["memory"] for rank in ranks)
    return {
        "strategy": strategy,
        "world": world,
        "precision": precision,
        "parameters": counted.parameters,
        "numbers": ranks[0]["numbers"],
        "numbers_planned": numbers,
        "sent": ranks[0]["sent"],
        "sent_planned": sent_bytes(strategy, counted.parameters, world),
        "memory": most,
        "memory_planned": planned,
        "memory_ratio": planned / most,
    }


def main() -> None:
    if RESULT in os.environ:
        return rank_main()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--worlds", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument(
        "--model",
        nargs="+",
        default=["model.width=2048", "model.layers=2", "model.heads=8", "model.ffn=512"],
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = [
            sys.executable,
            "-m",
            "lcm_scale.cli",
            "shard",
            str(ROOT / "recipes" / "data" / "demo_pretrain.yaml"),
            "name=strategies",
            "simulation.subjects=120",
            f"shards_dir={folder}/shards",
            f"source.dir={folder}/raw",
        ]
        subprocess.run(
            shard,
            check=True,
            capture_output=True,
            env={**os.environ, "LCM_SALT_FILE": str(folder / "salt")},
        )
        for world in arguments.worlds:
            for strategy in arguments.strategies:
                for precision in arguments.precision:
                    rows.append(measure(folder, strategy, world, precision, arguments.model))
                    print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
