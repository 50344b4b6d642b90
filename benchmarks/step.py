"""What a step of a small model costs beyond its arithmetic: a run's steps beside bare ones.

    python benchmarks/step.py shards/abide

After each step of a real run (recipes/abide_small.yaml, its callbacks, log and checkpoints) a bare
one is taken by a second model of the same shape on the same batch: forward pass, loss, backward
pass, clipping, optimiser. Both are one thread's processor time, so that they alternate
under whatever else the machine does. `overhead` is what the run's step takes more, as a share of it:
Lightning, callbacks, the log, and the making of the batch, which `batch_ms` gives. What happens once
an epoch (validation, checkpoint) is `epoch_end_ms`. Each case is run twice: as runs are, and with
Lightning's own step and hooks (training/hooks.py) and torch.manual_seed, as they were.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import torch

from lcm_scale.config import Recipe, load
from lcm_scale.data.stream import Batch, BatchStream
from lcm_scale.training import fit as training
from lcm_scale.training.module import LCMModule
from lcm_scale.training.prepare import PreparedRun, prepare
from model import device_name

ROOT = Path(__file__).parents[1]
THREE = "data.targets=[diagnosis,sex,age]"
# Width, scans a step, targets; the recipe's own has 26 tokens, 20 of them sites.
CASES = [
    (64, 64, []),
    (128, 64, []),
    (64, 64, [THREE]),
    (128, 64, [THREE]),
    (64, 16, [THREE]),
    (128, 16, [THREE]),
]


class Bare:
    """A second model, trained by nothing but what training is."""

    def __init__(self, prepared: PreparedRun) -> None:
        self.module = training.start_module(prepared, training.batches_of(prepared))
        self.optimizer = self.module.configure_optimizers()
        self.clip = prepared.recipe.optim.clip_norm
        self.module.train()

    def follow(self, module: LCMModule, optimizer: torch.optim.Optimizer) -> None:
        """The phase, rule and rate of the run."""
        self.module.phase = module.phase
        self.optimizer.set_stage(module.phase.stage)
        for ours, theirs in zip(self.optimizer.param_groups, optimizer.param_groups, strict=True):
            ours.update({key: value for key, value in theirs.items() if key != "params"})

    def step(self, batch: Batch) -> None:
        loss = self.module.training_step(batch, 0)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimizer.step()


class Beside(L.Callback):
    """Added last: takes a bare step after each of the run's, and has them both timed. The first
    step of an epoch is left out."""

    def __init__(self, bare: Bare) -> None:
        self.bare = bare
        self.run: list[float] = []
        self.alone: list[float] = []
        self.batch: list[float] = []
        self.ends: list[float] = []
        self.last: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.last is not None:
            self.ends.append(time.process_time() - self.last)
        self.bare.follow(pl_module, trainer.optimizers[0])  # type: ignore[arg-type]
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        epoch = trainer.current_epoch
        plan, columns = data.plan(epoch), data.phase_at(epoch)[1]
        self.stream = BatchStream(
            data.sets,
            data.source,
            data.labels,
            data.selection(epoch),
            columns,
            plan,
            0,
            epoch,
            None,
        )
        self.first = True

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        ended = time.process_time()
        if not self.first:
            assert self.last is not None
            self.run.append(ended - self.last)
            self.stream.batch(batch_idx)
            made = time.process_time()
            self.batch.append(made - ended)
            self.bare.step(batch)
            self.alone.append(time.process_time() - made)
        self.first = False
        self.last = time.process_time()


@contextmanager
def followed_by(beside: Beside, lightnings: bool) -> Iterator[None]:
    """Runs have `beside` as their last callback.  Args: lightnings: and its step and hooks."""
    seed = LCMModule.on_train_batch_start

    def seed_everything(self: LCMModule, batch: Batch, batch_idx: int) -> None:
        seed(self, batch, batch_idx)
        torch.manual_seed(torch.initial_seed())

    with ExitStack() as stack:

        def put(holder: Any, name: str, value: Any) -> None:
            stack.enter_context(patch.object(holder, name, value))

        real = training.only_what_they_do
        put(training, "only_what_they_do", lambda module, made: [*real(module, made), beside])
        if lightnings:
            put(training, "only_what_they_do", lambda module, made: [*made, beside])
            put(training, "step_plainly", lambda trainer: None)
            put(training, "Unprofiled", lambda: None)
            put(LCMModule, "on_train_batch_start", seed_everything)
        yield


def measure(
    shards: Path, width: int, batch: int, more: list[str], epochs: int, lightnings: bool
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        recipe = load(
            Recipe,
            ROOT / "recipes" / "abide_small.yaml",
            [
                f"runs_dir={folder}",
                f"data.sets=[{shards.name}]",
                f"data.shards_dir={shards.parent}",
                f"model.width={width}",
                f"model.ffn={width}",
                "model.people_memory=none",
                "model.context=[]",
                f"trainer.global_batch={batch}",
                f"trainer.max_epochs={epochs}",
                "trainer.accelerator=cpu",
                "trainer.threads=1",
                *more,
            ],
        )
        prepared = prepare(recipe)
        beside = Beside(Bare(prepared))
        with followed_by(beside, lightnings):
            training.fit(prepared)
    more_ms = [1e3 * (a - b) for a, b in zip(beside.run, beside.alone, strict=True)]
    step = 1e3 * statistics.median(beside.run)
    return {
        "steps_by": "Lightning" if lightnings else "hooks.PlainEpoch",
        "width": width,
        "layers": prepared.opened.model.layers,
        "tokens": prepared.opened.model.n_tokens,
        "batch": batch,
        "steps": len(more_ms),
        "step_ms": step,
        "bare_ms": 1e3 * statistics.median(beside.alone),
        "batch_ms": 1e3 * statistics.median(beside.batch),
        "more_ms": statistics.median(more_ms),
        "overhead": statistics.median(more_ms) / step,
        "epoch_end_ms": 1e3 * statistics.median(beside.ends),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("shards", type=Path, help="a shard set of ABIDE")
    parser.add_argument("--steps", type=int, default=120, help="of each case, about")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "step.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    scans = json.loads((arguments.shards / "manifest.json").read_text())["scans"]
    for (width, batch, more), lightnings in product(CASES, (False, True)):
        epochs = max(2, round(arguments.steps * batch / scans))
        row = measure(arguments.shards, width, batch, more, epochs, lightnings)
        rows.append(row)
        print(
            f"{row['steps_by']:<16} {width:>4} x {row['layers']}  M {row['tokens']:>3}  B {batch:>3}  "
            f"step {row['step_ms']:6.1f} ms  bare {row['bare_ms']:6.1f}  "
            f"overhead {row['overhead']:.1%} ({row['more_ms']:.2f} ms, batch {row['batch_ms']:.2f})",
            flush=True,
        )
    found = {
        "processor": device_name("cpu"),
        "torch": torch.__version__,
        "threads": 1,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
