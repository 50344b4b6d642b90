"""Kill training, saving and sharding at random instants, damage files, fill the disk, go on: is
anything lost?

    python benchmarks/faults.py [--kills 300] [--seed 0]

The result goes into benchmarks/results/, in a file named after the CPU.

Children are forked from one parent that has imported everything. A trial is one run (or one shard
set) that is killed with SIGKILL at random instants and started again by the same call until it
ends. After one kill in ten a random file of its checkpoints or of its shard set is flipped, cut or
deleted; one trial in eight begins on a small file system that is almost full. What a one-line error
advises is done (free space, shard again, remove the run folder), nothing else.

Counted: trials that finished; scans lost or doubled (by log.jsonl: every step once, every epoch's
scans once); wrong results (weights, losses or shards that are not those of the undisturbed run, bit
for bit; a set that is neither the old one nor the new one); unclear errors (neither success nor a
one-line InputError that the state of things explains).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lcm_scale import config
from lcm_scale.config import Recipe, ShardRecipe
from lcm_scale.data import shards
from lcm_scale.data.manifest import MANIFEST
from lcm_scale.data.verify import verify_shards
from lcm_scale.errors import InputError
from lcm_scale.training import fit as run
from lcm_scale.training.parallel.checkpoint_io import AtomicCheckpointIO
from lcm_scale.training.run_log import read_log
from lcm_scale.weights import checkpoints

KINDS = ("train", "save", "train", "shard", "save", "train", "train", "shard")
MOST_KILLS = 12  # of one trial
FULL_EVERY = 8  # trials, in one of which the disk is full at first
DAMAGE = ("flip", "cut", "delete")


@dataclass
class Tally:
    """What is reported."""

    trials: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    damage: Counter[str] = field(default_factory=Counter)
    full_disks: int = 0
    clear_errors: Counter[str] = field(default_factory=Counter)
    scans_lost_or_doubled: list[str] = field(default_factory=list)
    wrong_results: list[str] = field(default_factory=list)
    unclear_errors: list[str] = field(default_factory=list)


def recipe_in(folder: Path) -> Recipe:
    """20 steps of 4 epochs in two phases, dropout on, saved every 2 steps."""
    return config.load(
        Recipe,
        None,
        [
            "name=run",
            f"runs_dir={folder}/runs",
            f"data.shards_dir={folder}/shards",
            "data=first",
            "model.width=16",
            "model.heads=2",
            "model.ffn=16",
            "trainer.global_batch=8",
            "trainer.threads=1",
            "trainer.accelerator=cpu",
            "trainer.checkpoint_steps=2",
            "objective.scalar_scale=standardised",
            "objective.scalar_weight=1.0",
            "phases=[{name: momentum, epochs: 2, stage: momentum}, {name: adaptive, epochs: 2, "
            "readout: adaptive}]",
        ],
    )


def shard_recipe(raw: Path, shards: Path, block: int) -> ShardRecipe:
    groups = "groups=[{name: diagnosis, labels: [CN, Autism]}, {name: eye_status, merge: false}]"
    return config.load(
        ShardRecipe,
        None,
        [
            "name=first",
            "reader=simulated",
            "atlas=toy:12",
            "simulation.volumes=40",
            "simulation.subjects=37",
            "simulation.missing_labels=0.3",
            "simulation.seed=3",
            groups,
            f"source.dir={raw}",
            f"shards_dir={shards}",
            f"block={block}",
            "shard_scans=16",
            "cohort=toy",
        ],
    )


class Child:
    """`work` in a forked process; its errors come back as text."""

    def __init__(
        self, work: Callable[[int], Any], folder: Path, file_limit: int | None = None
    ) -> None:
        self.report = folder / "child.txt"
        self.report.unlink(missing_ok=True)
        self.saving, announce = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(announce)
            return
        code = 1
        try:
            os.nice(5)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            if file_limit is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
            work(announce)
            code = 0
        except InputError as error:
            code = 2
            self._tell(str(error))
        except BaseException:
            self._tell(traceback.format_exc())
        os._exit(code)

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )
        self.report.write_text(text)

    def wait_for_save(self) -> None:
        """Until the child says that it saves, or is gone."""
        os.read(self.saving, 1)

    def kill_after(self, seconds: float) -> None:
        """SIGKILL, or nothing where the child was faster."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._gone():
            time.sleep(min(0.002, max(0.0, end - time.monotonic())))
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _gone(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self) -> tuple[int, str]:
        """Exit code (-9: killed) and error text."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.saving)
        return os.waitstatus_to_exitcode(
            status
        ), self.report.read_text() if self.report.is_file() else ""


def train(folder: Path, at_save: int | None = None) -> Callable[[int], None]:
    """Work for a child: the run; it announces its `at_save`-th save."""

    def work(announce: int) -> None:
        if at_save is not None:
            real, calls = AtomicCheckpointIO.save_checkpoint, []

            def save(self: Any, *arguments: Any, **named: Any) -> None:
                calls.append(1)
                if len(calls) == at_save:
                    os.write(announce, b"s")
                real(self, *arguments, **named)

            AtomicCheckpointIO.save_checkpoint = save  # type: ignore[method-assign]
        run.pretrain(recipe_in(folder))

    return work


def shard(recipe: ShardRecipe, announces: bool = False) -> Callable[[int], None]:
    """Work for a child: the set; it announces that it writes the manifest, after which the sets
    change places."""

    def work(announce: int) -> None:
        real = shards.write_atomic

        def write(path: Path, data: bytes) -> None:
            if path.name == MANIFEST:
                os.write(announce, b"s")
            real(path, data)

        if announces:
            shards.write_atomic = write
        shards.write_shards(recipe)

    return work


@dataclass
class Truth:
    """The undisturbed run and shard sets."""

    folder: Path
    seconds: dict[str, float]
    state: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor]
    steps: list[tuple[int, list[int], float]]
    fingerprints: tuple[str, str]  # of the set in blocks of 4 (the old one) and of 8


def establish(folder: Path) -> Truth:
    """Also the warm-up: what a run imports late is imported here, once."""
    raw = folder / "raw"
    for block in (4, 8):
        shards.write_shards(shard_recipe(raw, folder / f"sets-{block}", block))
    shutil.copytree(folder / "sets-8", folder / "shards")
    run.pretrain(recipe_in(folder))
    shutil.rmtree(folder / "runs")
    seconds = {}
    works = {"shard": shard(shard_recipe(raw, folder / "again", 8)), "train": train(folder)}
    for kind, work in works.items():
        start = time.monotonic()
        code, text = Child(work, folder).end()
        assert code == 0, text
        seconds[kind] = time.monotonic() - start
    run_folder = folder / "runs" / "run"
    marks = tuple(verify_shards(folder / f"sets-{block}" / "first").fingerprint for block in (4, 8))
    return Truth(
        folder,
        seconds,
        state_of(newest(run_folder)),
        state_of(run_folder / "checkpoints" / checkpoints.BEST),
        steps_of(run_folder),
        (marks[0], marks[1]),
    )


def newest(folder: Path) -> Path:
    found = checkpoints.newest(folder / "checkpoints")
    assert found is not None
    return found


def state_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in checkpoints.read_file(checkpoint)["state_dict"].items()}


def steps_of(folder: Path) -> list[tuple[int, list[int], float]]:
    events = read_log(folder / "log.jsonl")
    return [(e["epoch"], e["consumed"], e["loss"]) for e in events if e["event"] == "step"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Disk:
    """The folder of a trial; where `full`, on a small file system that has a few kilobytes left
    until `free` is called.

    Root mounts a tmpfs; anybody else gets a limit on the size of each file instead.
    """

    def __init__(
        self, folder: Path, rng: random.Random, full: bool, seed_with: Path, name: str
    ) -> None:
        self.folder, self.mounted = folder, False
        self.limit: int | None = None
        folder.mkdir()
        if full and os.geteuid() == 0:
            mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
            self.mounted = subprocess.run(mount, capture_output=True).returncode == 0
        shutil.copytree(seed_with, folder / name)
        self.ballast = folder / "ballast"
        left = int(
            10 ** rng.uniform(3.0, 6.3)
        )  # a run takes about a megabyte, a shard set a tenth of it
        if self.mounted:
            free = shutil.disk_usage(folder).free
            self.ballast.write_bytes(bytes(max(0, free - left)))
        elif full:
            self.limit = left // 4

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)
        self.limit = None

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def disk(*arguments: Any) -> Iterator[Disk]:
    small_disk = Disk(*arguments)
    try:
        yield small_disk
    finally:
        small_disk.close()


def harm(rng: random.Random, files: list[Path]) -> str:
    """Damage one of the files; what was done."""
    if not files:
        return ""
    file, how = rng.choice(files), rng.choice(DAMAGE)
    size = file.stat().st_size
    if how == "delete" or not size:
        file.unlink()
    elif how == "cut":
        os.truncate(file, rng.randrange(size))
    else:
        with open(file, "rb+") as handle:
            handle.seek(rng.randrange(size))
            byte = handle.read(1)[0]
            handle.seek(-1, os.SEEK_CUR)
            handle.write(bytes([byte ^ (1 << rng.randrange(8))]))
    kind = "checkpoint" if file.suffix == ".ckpt" else "shard set"
    return f"{kind}: {how}"


def one_line(code: int, text: str) -> bool:
    return code == 2 and "\n" not in text.strip() and len(text) < 400


def trial_training(kind: str, number: int, truth: Truth, rng: random.Random, tally: Tally) -> bool:
    """One run, killed and started again until it ends.  Returns: whether it did."""
    full = number % FULL_EVERY == 5
    tally.full_disks += full
    kills = rng.randint(1, MOST_KILLS)
    name = f"{kind} {number}"
    with disk(
        truth.folder / f"trial-{number}", rng, full, truth.folder / "sets-8", "shards"
    ) as place:
        folder = place.folder / "runs" / "run"
        harmed: set[str] = set()
        for _ in range(kills + 12):
            at_save = rng.randint(1, 8) if kind == "save" and kills else None
            child = Child(train(place.folder, at_save), truth.folder, place.limit)
            if kills and kind == "save":
                child.wait_for_save()
                child.kill_after(rng.uniform(0.0, truth.seconds["train"] / 15))
            elif kills:
                child.kill_after(rng.uniform(0.0, 0.7 * truth.seconds["train"]))
            code, text = child.end()
            if code == -signal.SIGKILL:
                kills -= 1
                tally.kills[kind] += 1
                if rng.random() < 0.1:
                    done = harm(
                        rng,
                        [
                            *folder.glob("checkpoints/*.ckpt"),
                            *(place.folder / "shards" / "first").iterdir(),
                        ],
                    )
                    if done:
                        tally.damage[done] += 1
                        harmed.add(done.partition(":")[0])
                continue
            if code == 0:
                return judge_run(name, folder, truth, "checkpoint" in harmed, tally)
            if not one_line(code, text):
                tally.unclear_errors.append(f"{name}: exit {code}: {text[-600:]}")
                return False
            if "cannot be written" in text and (place.limit is not None or place.ballast.exists()):
                tally.clear_errors["no room"] += 1
                place.free()
            elif "remove the run folder to begin again" in text and "checkpoint" in harmed:
                tally.clear_errors["all checkpoints damaged"] += 1
                shutil.rmtree(folder)
            elif str(place.folder / "shards") in text and "shard set" in harmed:
                tally.clear_errors["shard set damaged"] += 1
                shutil.rmtree(place.folder / "shards")
                shutil.copytree(truth.folder / "sets-8", place.folder / "shards")
                harmed.discard("shard set")
            else:
                tally.unclear_errors.append(f"{name}: nothing explains: {text}")
                return False
    tally.unclear_errors.append(f"{name}: does not end")
    return False


def judge_run(
    name: str, folder: Path, truth: Truth, checkpoints_harmed: bool, tally: Tally
) -> bool:
    steps = steps_of(folder)
    if [s[:2] for s in steps] != [s[:2] for s in truth.steps]:
        tally.scans_lost_or_doubled.append(f"{name}: {[s[:2] for s in steps]}")
    if [s[2] for s in steps] != [s[2] for s in truth.steps]:
        tally.wrong_results.append(f"{name}: losses differ")
    if not same(state_of(newest(folder)), truth.state):
        tally.wrong_results.append(f"{name}: final weights differ")
    best = folder / "checkpoints" / checkpoints.BEST
    try:
        if not same(state_of(best), truth.best):
            tally.wrong_results.append(f"{name}: the chosen epoch's weights differ")
    except InputError as error:
        if checkpoints_harmed and one_line(2, str(error)):
            tally.clear_errors["chosen checkpoint damaged"] += 1
        else:
            tally.unclear_errors.append(f"{name}: best.ckpt: {error}")
    left = [p.name for p in folder.rglob(".*")]
    if left:
        tally.wrong_results.append(f"{name}: left behind: {left}")
    return True


def trial_sharding(number: int, truth: Truth, rng: random.Random, tally: Tally) -> bool:
    """A set written in place of an old one, killed and started again until it is done.  Returns:
    whether it was."""
    full = number % FULL_EVERY == 3
    tally.full_disks += full
    kills = rng.randint(1, MOST_KILLS)
    name = f"shard {number}"
    with disk(
        truth.folder / f"trial-{number}", rng, full, truth.folder / "sets-4", "shards"
    ) as place:
        sets, wanted = (
            place.folder / "shards",
            shard_recipe(truth.folder / "raw", place.folder / "shards", 8),
        )
        harmed = False
        for _ in range(kills + 12):
            # As often where the sets change places as before it.
            late = rng.random() < 0.5
            child = Child(shard(wanted, late and kills > 0), truth.folder, place.limit)
            if kills and late:
                child.wait_for_save()
                child.kill_after(10 ** rng.uniform(-4.0, -1.5))
            elif kills:
                child.kill_after(rng.uniform(0.0, truth.seconds["shard"]))
            code, text = child.end()
            if not harmed:
                judge_set(name, sets, truth, tally)
            if code == -signal.SIGKILL:
                kills -= 1
                tally.kills["shard"] += 1
                if rng.random() < 0.1:
                    done = harm(rng, sorted((sets / "first").glob("*")))
                    if done:
                        tally.damage[done] += 1
                        harmed = True
                continue
            if code == 0:
                harmed = False
                try:
                    if verify_shards(sets / "first").fingerprint != truth.fingerprints[1]:
                        tally.wrong_results.append(f"{name}: the new set differs")
                except InputError as error:
                    tally.wrong_results.append(f"{name}: {error}")
                left = [p.name for p in sets.rglob(".*")]
                if left:
                    tally.wrong_results.append(f"{name}: left behind: {left}")
                if not kills:
                    return True
                kills -= 1  # faster than the kill: the set is written once more, in place of itself
                continue
            if not one_line(code, text):
                tally.unclear_errors.append(f"{name}: exit {code}: {text[-600:]}")
                return False
            if "cannot be written" in text and (place.limit is not None or place.ballast.exists()):
                tally.clear_errors["no room"] += 1
                place.free()
            elif "holds no shard set" in text and harmed:
                tally.clear_errors["old set damaged"] += 1
                shutil.rmtree(sets / "first")
            else:
                tally.unclear_errors.append(f"{name}: nothing explains: {text}")
                return False
    tally.unclear_errors.append(f"{name}: does not end")
    return False


def judge_set(name: str, sets: Path, truth: Truth, tally: Tally) -> None:
    """A set under its name is the old one or the new one, whole; between two renames it may stand
    aside, whole."""
    standing = [sets / "first"] if (sets / "first").exists() else list(sets.glob(".first.*old"))
    try:
        found = verify_shards(standing[0]).fingerprint if standing else "gone"
    except InputError as error:
        found = str(error)
    if found not in truth.fingerprints:
        tally.wrong_results.append(f"{name}: after a kill the set is {found}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tally, start = Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["LCM_SALT_FILE"] = str(folder / "salt")
        (folder / "salt").write_text("5a" * 32)
        with open(folder / "out.txt", "w") as quiet, contextlib.redirect_stderr(quiet):
            truth = establish(folder)
            number = 0
            while tally.kills.total() < options.kills:
                kind = KINDS[number % len(KINDS)]
                tally.trials[kind] += 1
                rng = random.Random(f"{options.seed} {number}")
                if kind == "shard":
                    tally.finished[kind] += trial_sharding(number, truth, rng, tally)
                else:
                    tally.finished[kind] += trial_training(kind, number, truth, rng, tally)
                number += 1
                bad = (
                    len(tally.scans_lost_or_doubled)
                    + len(tally.wrong_results)
                    + len(tally.unclear_errors)
                )
                print(
                    f"\r{tally.kills.total()} kills, {number} trials, {bad} bad",
                    end="",
                    file=sys.__stderr__,
                    flush=True,
                )
    print(file=sys.stderr)
    result = {
        "machine": cpu(),
        "seed": options.seed,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "undisturbed_seconds": {k: round(v, 2) for k, v in truth.seconds.items()},
        "scans_of_a_run": sum(stop - first for _, (first, stop), _ in truth.steps),
        "trials": dict(tally.trials),
        "finished": dict(tally.finished),
        "kills": dict(tally.kills),
        "damaged_files": dict(sorted(tally.damage.items())),
        "full_disks": tally.full_disks,
        "clear_errors": dict(tally.clear_errors),
        "scans_lost_or_doubled": len(tally.scans_lost_or_doubled),
        "wrong_results": len(tally.wrong_results),
        "unclear_errors": len(tally.unclear_errors),
        "details": [*tally.scans_lost_or_doubled, *tally.wrong_results, *tally.unclear_errors],
        "versions": {"torch": str(torch.__version__), "python": platform.python_version()},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"faults_{re.sub('[^a-z0-9]+', '-', cpu().lower()).strip('-')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(1 if result["details"] else 0)


def cpu() -> str:
    """The CPU's name, as the kernel tells it."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


if __name__ == "__main__":
    main()
