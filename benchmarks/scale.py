"""Does anything grow that must not: the data side of a step, starting, resuming and looking, from a
thousand scans to a million.

    python benchmarks/scale.py [--scans 1000 100000 1000000] [--out FOLDER]

Simulated scans of 12 regions (planning does not care how large a matrix is), written as a real
shard set, 128 scans a record. Each size is measured in a process of its own, with one thread:

`step ms`, CPU milliseconds a step of everything on the data side of training (the batch, the plan,
the count of what was consumed), the mean of 2,000 steps after 200; the scans in memory, and streamed
in windows of 2
blocks, since the smallest set has no more than 8. `epoch ms`: planning an epoch, once an epoch. `open s`: opening the set.
`memory MB`: what the process grew by while it opened the set (a million labels are kept in memory;
this grows with the scans by design), `steps MB`: while it took its steps. `inspect s`, `verify s`:
the commands, Python's start included.

`resume`: a real run goes on for one epoch, with 1,000,000 logged steps in its folder, and without.
`sweep status`: over 1,000 runs, half finished, half in work with 2,000 logged steps each.
The result goes into benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from lcm_scale import config
from lcm_scale.atlas import load_atlas
from lcm_scale.config import Recipe, ShardRecipe
from lcm_scale.data.collect import ReadSummary
from lcm_scale.data.manifest import MANIFEST
from lcm_scale.data.module import ConnectomeData
from lcm_scale.data.sets import open_sets
from lcm_scale.data.shards import write_set
from lcm_scale.data.store import ScanFacts, Store
from lcm_scale.data.stream import ResidentEdges, StreamedEdges
from lcm_scale.files import write_atomic
from lcm_scale.sweep import run as sweeps
from lcm_scale.sweep.plan import plan
from lcm_scale.sweep.points import open_sweep

REGIONS, BATCH, BLOCK, WINDOW = 12, 64, 128, 2
WARM, STEPS = 200, 2000
LOGGED, RUNS, RUN_STEPS = 1_000_000, 1000, 2000
RUN = [
    "name=run",
    "data=[small]",
    "model.preset=tiny",
    "trainer.global_batch=64",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
    "phases=[{name: only, epochs: 3}]",
]
SWEEP = """
name: many
recipe: run
axes: {{size: [8x1], subjects: [20], epochs: [1], seed: {seeds}}}
"""


def write_simulated(folder: Path, name: str, scans: int) -> None:
    """A shard set of so many people with one scan each."""
    recipe = config.load(
        ShardRecipe,
        None,
        [
            f"name={name}",
            f"atlas=toy:{REGIONS}",
            f"block={BLOCK}",
            f"shards_dir={folder}",
            "groups=[{name: diagnosis, labels: [CN, Autism]}]",
        ],
    )
    rng = np.random.default_rng(0)
    edges = REGIONS * (REGIONS - 1) // 2
    fc = (rng.standard_normal((scans, edges)) * 0.2).clip(-1, 1).astype(np.float16)
    facts = [
        ScanFacts(f"{i:016x}", f"{i:016x}", "", "", "one", 0, 100, 2.0, 20.0 + i % 60, "F", 0.1, 0)
        for i in range(scans)
    ]
    labels: list[str | None] = [("CN", "Autism")[i % 2] for i in range(scans)]
    keys = [(f"{i:08d}", "", "", 0) for i in range(scans)]
    summary = ReadSummary(load_atlas(recipe.atlas), keys, simulated=True)
    store = Store(fc, facts, {"diagnosis": labels}, {})  # type: ignore[arg-type]
    aside = folder / name
    aside.mkdir(parents=True)
    manifest = write_set(recipe, load_atlas(recipe.atlas), store, summary, aside)
    write_atomic(aside / MANIFEST, json.dumps(manifest.to_json()).encode())


def memory_mb() -> float:
    """What the process has resident now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def measure_steps(folder: Path, name: str) -> dict[str, float]:
    """In this process: what a step costs on the data side."""
    torch.set_num_threads(1)
    before, start = memory_mb(), time.perf_counter()
    sets = open_sets(
        config.load(Recipe, None, [f"data=[{name}]", f"data.shards_dir={folder}"]).data
    )
    found = {"open s": time.perf_counter() - start, "memory MB": memory_mb() - before}
    for kind, source, window in (
        ("resident", ResidentEdges(sets), None),
        ("streamed", StreamedEdges(sets), WINDOW),
    ):
        data = ConnectomeData(
            sets,
            source,
            np.arange(sets.n_scans),
            np.arange(0),
            lambda _: ((), [0, 1]),
            BATCH,
            0,
            window,
        )
        data.trainer = SimpleNamespace(world_size=1, global_rank=0, current_epoch=0)
        start = time.process_time()
        batches = data.train_dataloader()
        found[f"{kind}: epoch ms"] = (time.process_time() - start) * 1e3
        steps = data.plan(0).steps
        taken, began, held = 0, 0.0, 0.0
        while taken < WARM + STEPS:
            data.consumed = 0  # small sets are gone through again and again
            for _, _batch in zip(range(min(steps, WARM + STEPS - taken)), batches, strict=False):
                data.step_consumed()
                taken += 1
                if taken == WARM:
                    began, held = time.process_time(), memory_mb()
        found[f"{kind}: step ms"] = (time.process_time() - began) / STEPS * 1e3
        found[f"{kind}: steps MB"] = memory_mb() - held
    return found


def command(*words: str, folder: Path) -> float:
    """Seconds of an lcm-scale command."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "lcm_scale.cli", *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - start


def measure_size(folder: Path, scans: int) -> dict[str, float]:
    name = f"scans-{scans}"
    start = time.perf_counter()
    write_simulated(folder / "shards", name, scans)
    found = {"write s": time.perf_counter() - start}
    words = [sys.executable, __file__, "--one", str(folder / "shards"), name]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found |= json.loads(done.stdout)
    for verb in ("inspect", "verify"):
        found[f"{verb} s"] = command(verb, f"shards/{name}", folder=folder)
    shutil.rmtree(folder / "shards" / name)
    return found


def step_lines(count: int, epoch_of: int) -> list[str]:
    """As a run writes them: `count` steps, an epoch every `epoch_of`."""
    lines = []
    for step in range(1, count + 1):
        facts = {
            "step": step,
            "epoch": (step - 1) // epoch_of,
            "phase": "only",
            "stage": "adaptive",
        }
        lines.append(json.dumps({"event": "step", **facts, "consumed": [0, 64], "loss": 1.234567}))
        if step % epoch_of == 0:
            row = {"epoch": facts["epoch"], "step": step, "phase": "only", "lr": 1e-3}
            lines.append(json.dumps({"event": "epoch", **row, "train_loss": 1.2, "val_loss": 1.3}))
    return lines


def measure_resume(folder: Path) -> dict[str, float]:
    write_simulated(folder / "shards", "small", 640)
    (folder / "empty.yaml").write_text("", encoding="utf-8")
    found = {}
    for kind, logged in (("10 steps", 0), ("1,000,000 steps", LOGGED)):
        words = ["pretrain", "empty.yaml", *RUN]
        shutil.rmtree(folder / "runs", ignore_errors=True)
        command(*words, "trainer.max_epochs=1", folder=folder)
        log = folder / "runs" / "run" / "log.jsonl"
        own = log.read_text(encoding="utf-8")
        # Behind the real ones: the resume takes them back, as it would after any kill.
        log.write_text(own + "".join(line + "\n" for line in step_lines(logged, 1000)))
        found[f"resume and one epoch of 10 steps, {kind} logged, s"] = command(
            *words, "trainer.max_epochs=2", folder=folder
        )
    return found


def measure_status(folder: Path) -> dict[str, float]:
    (folder / "run.yaml").write_text(
        "name: run\ndata: {sets: [small], targets: [diagnosis], validation: 0.2}\n"
        "model: {preset: tiny}\ntrainer: {global_batch: 8, threads: 1, accelerator: cpu}\n"
        "evaluate: {target: diagnosis, folds: 4, stratify: diagnosis}\n"
        f"runs_dir: {folder}/runs\n"
    )
    recipe = folder / "sweep_many.yaml"
    recipe.write_text(SWEEP.format(seeds=list(range(RUNS))) + f"runs_dir: {folder}/runs\n")
    here = Path.cwd()
    os.chdir(folder)
    try:
        made = plan(open_sweep(recipe))
        first, *others = made.runnable
        sweeps.run_one(made.sweep, first)
        log = "\n".join(step_lines(RUN_STEPS, 100)) + "\n"
        for number, point in enumerate(others):
            own = made.sweep.folder_of(point)
            if number % 2:
                shutil.copytree(made.sweep.folder_of(first), own)
            else:
                own.mkdir(parents=True)
                (own / "log.jsonl").write_text(log, encoding="utf-8")
    finally:
        os.chdir(here)
    return {
        f"sweep status over {RUNS} runs, s": command("sweep", "status", str(recipe), folder=folder)
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main(given: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--scans", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options.add_argument("--one", nargs=2, metavar=("FOLDER", "NAME"), help=argparse.SUPPRESS)
    arguments = options.parse_args(given)
    if arguments.one:
        print(json.dumps(measure_steps(Path(arguments.one[0]), arguments.one[1])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LCM_SALT_FILE"] = str(folder / "salt")
        (folder / "salt").write_text("5a" * 32, encoding="utf-8")
        sizes = {str(scans): measure_size(folder, scans) for scans in sorted(arguments.scans)}
        rest: dict[str, Any] = measure_resume(folder) | measure_status(folder)

    def short(values: dict[str, float]) -> dict[str, float]:
        return {key: float(f"{value:.4g}") for key, value in values.items()}

    result = {
        "processor": processor(),
        "load": os.getloadavg()[0],
        "command": " ".join(["python benchmarks/scale.py", *sys.argv[1:]]),
        "by scans": {scans: short(values) for scans, values in sizes.items()},
        **short(rest),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "scale.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
