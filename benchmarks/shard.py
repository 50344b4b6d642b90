"""How long `lcm-scale shard` takes with one process and with several.

    python benchmarks/shard.py RECIPE [KEY=VALUE ...] [--jobs 1 2] [--repeats 3]

Runs the verb as a user does, imports included, the numbers of processes in turn, and sees that all
make the same bytes. Wall and processor seconds are medians; processor seconds are those of all
processes together. Writes one row a set into results/shard.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lcm_scale.config import ShardRecipe, load
from lcm_scale.data.manifest import read_manifest


def once(recipe: Path, overrides: list[str], jobs: int, folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of one `shard`."""
    command = [sys.executable, "-m", "lcm_scale.cli", "shard", str(recipe), *overrides]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [*command, f"shards_dir={folder}", "--jobs", str(jobs)],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bytes_of(folder: Path) -> str:
    """A hash of every file of a set."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def measure(recipe: Path, overrides: list[str], jobs: list[int], repeats: int) -> dict[str, object]:
    name = load(ShardRecipe, recipe, overrides).name
    taken: dict[int, list[tuple[float, float]]] = {n: [] for n in jobs}
    made = set()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            for n in jobs:
                taken[n].append(once(recipe, overrides, n, Path(folder)))
                made.add(bytes_of(Path(folder) / name))
        scans = read_manifest(Path(folder) / name).scans
    if len(made) != 1:
        raise SystemExit("the sets differ")
    return {
        "scans": scans,
        "processors": len(os.sched_getaffinity(0)),
        "load before": round(load_before, 1),
        **{
            f"jobs {n}": {
                "wall s": round(statistics.median(wall for wall, _ in times), 1),
                "processor s": round(statistics.median(busy for _, busy in times), 1),
            }
            for n, times in taken.items()
        },
    }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("recipe", type=Path)
    options.add_argument("overrides", nargs="*")
    options.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = options.parse_args()
    path = arguments.out / "shard.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows[arguments.recipe.stem] = measure(
        arguments.recipe, arguments.overrides, arguments.jobs, arguments.repeats
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
