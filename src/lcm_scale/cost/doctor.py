"""The pre-flight: everything that a run needs and that fails late otherwise, checked in a minute by
every rank.

Each check gives a `Finding` that says what was seen and what to do. The ranks meet in one small
all-reduce; the first prints. Nothing is trained, no run folder is touched but for one file that is
written and removed.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import SLURMEnvironment

from lcm_scale.config import Recipe, expand
from lcm_scale.cost.choice import choose
from lcm_scale.cost.count import Cost, cost, job_for
from lcm_scale.data.manifest import read_manifest
from lcm_scale.data.sets import set_folder
from lcm_scale.errors import InputError
from lcm_scale.files import sha256
from lcm_scale.hardware.machine import Machine, machine_here
from lcm_scale.ranks import rank, under_slurm

PROBE_BYTES = 64_000_000
VERIFY_SECONDS = 20.0  # checksums beyond it are left to `lcm-scale verify`
MEETING_SECONDS = 45
SLOW_DISK = 50e6  # bytes a second


@dataclass(frozen=True)
class Finding:
    """One check. `state`: ok, warn (the run may start) or fail; `advice` says what to do."""

    what: str
    state: str
    seen: str
    advice: str = ""


def examine(recipe: Recipe) -> list[Finding]:
    """All findings of this rank."""
    return [
        *_software(recipe),
        *_devices(recipe),
        *_disk(recipe),
        *_shards(recipe),
        *_meeting(recipe),
    ]


def _software(recipe: Recipe) -> Iterator[Finding]:
    yield Finding("torch", "ok", str(torch.__version__))
    if recipe.trainer.strategy.startswith("zero"):
        if importlib.util.find_spec("deepspeed"):
            yield Finding("DeepSpeed", "ok", metadata.version("deepspeed"))
        else:
            yield Finding(
                "DeepSpeed", "fail", "not installed", "pip install 'lcm-scale[deepspeed]'"
            )
    if torch.cuda.is_available():
        found = importlib.util.find_spec("flash_attn")
        yield Finding(
            "flash-attn",
            "ok",
            metadata.version("flash-attn") if found else "not installed; torch's kernels serve",
        )


def _devices(recipe: Recipe) -> Iterator[Finding]:
    config = recipe.trainer
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        state = "fail" if config.accelerator == "gpu" else "ok"
        cores = len(os.sched_getaffinity(0))
        yield Finding(
            "device",
            state,
            f"no GPU; {cores} cores",
            "ask the scheduler for a GPU, or trainer.accelerator=cpu",
        )
        if state == "ok":
            yield _plan_here(recipe)
        return
    count = torch.cuda.device_count()
    # Slurm may show each task its own GPU only.
    needed = 1 if "SLURM_JOB_ID" in os.environ else config.devices
    names = ", ".join(sorted({torch.cuda.get_device_name(i) for i in range(count)}))
    state = "ok" if count >= needed else "fail"
    yield Finding(
        "GPUs",
        state,
        f"{count} ({names}), CUDA {torch.version.cuda}",
        f"trainer.devices={config.devices} needs more",
    )
    idle = int(os.environ.get("SLURM_GPUS_ON_NODE") or 0) - config.devices
    if under_slurm() and idle > 0:
        yield Finding(
            "GPUs of the job",
            "warn",
            f"{config.devices} of {config.devices + idle} on this node work",
            f"ask for a task each: sbatch --ntasks-per-node={config.devices + idle}",
        )
    try:
        probe = torch.ones(256, 256, device="cuda")
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        yield Finding(
            "GPU works",
            "ok" if float((probe @ probe).sum()) else "fail",
            f"{free / 1e9:.0f} of {total / 1e9:.0f} GB free",
        )
    except RuntimeError as error:
        yield Finding(
            "GPU works",
            "fail",
            str(error).splitlines()[0],
            "driver and torch may not fit; ask for another node",
        )
        return
    nccl = ".".join(map(str, torch.cuda.nccl.version()))
    yield Finding("NCCL", "ok", nccl)
    yield _plan_here(recipe)


def _plan_here(recipe: Recipe) -> Finding:
    try:
        return plan(recipe, machine_here(recipe.trainer))
    except InputError as error:
        return Finding("plan", "fail", str(error))


def plan(recipe: Recipe, machine: Machine) -> Finding:
    """How the recipe would run on such a machine: the planner's answer, which the run takes.

    Raises: InputError where nothing fits.
    """
    choice = choose(job_for(recipe, _cost(recipe).model), machine, recipe.trainer)
    return Finding("plan", "warn" if choice.warning else "ok", choice.reason, choice.warning)


def _disk(recipe: Recipe) -> Iterator[Finding]:
    """Speed and room of the folder of runs."""
    folder = expand(recipe.runs_dir)
    probe = folder / f".doctor-{rank()}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data = os.urandom(1_000_000)
        start = time.monotonic()
        with open(probe, "wb") as handle:
            for _ in range(PROBE_BYTES // len(data)):
                handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        speed = PROBE_BYTES / (time.monotonic() - start)
    except OSError as error:
        yield Finding(
            "runs_dir",
            "fail",
            f"{folder}: {error.strerror}",
            "name a folder that every node can write: runs_dir=...",
        )
        return
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    slow = speed < SLOW_DISK
    yield Finding(
        "writing",
        "warn" if slow else "ok",
        f"{speed / 1e6:.0f} MB/s in runs_dir",
        "checkpoints will take long" if slow else "",
    )
    free = shutil.disk_usage(folder).free
    # Weights and two optimiser moments, of each checkpoint that is kept and the one being written,
    # and best.ckpt.
    size = 12 * _cost(recipe).parameters
    need = size * (recipe.trainer.keep_checkpoints + 1) + size // 3
    state = "ok" if free > need else "fail"
    yield Finding(
        "room",
        state,
        f"{free / 1e9:.0f} GB free, checkpoints need {need / 1e9:.1f}",
        "free some, or fewer keep_checkpoints",
    )


def _cost(recipe: Recipe) -> Cost:
    """Of the recipe's own data where they can be opened; a missing set is a finding of its own."""
    try:
        return cost(recipe)
    except InputError:
        return cost(replace(recipe, data=replace(recipe.data, sets=[])))


def _shards(recipe: Recipe) -> Iterator[Finding]:
    start = time.monotonic()
    for name in recipe.data.sets:
        try:
            folder = set_folder(name, recipe.data.shards_dir)
            manifest = read_manifest(folder)
        except InputError as error:
            yield Finding(f"shards {name}", "fail", str(error), "")
            continue
        bad, checked = "", 0
        for shard in manifest.shards:
            path = folder / shard.file
            if not path.is_file() or path.stat().st_size != shard.bytes:
                bad = f"{shard.file} is missing or has another size"
            elif rank() == 0 and time.monotonic() - start < VERIFY_SECONDS:
                checked += 1
                bad = "" if sha256(path) == shard.sha256 else f"{shard.file} has another SHA-256"
            if bad:
                break
        seen = (
            bad
            or f"{manifest.scans} scans; "
            f"SHA-256 of {checked} of {len(manifest.shards)} tars checked"
        )
        yield Finding(
            f"shards {name}",
            "fail" if bad else "ok",
            seen,
            f"lcm-scale verify {folder}, then shard or copy it again",
        )


def _meeting(recipe: Recipe) -> Iterator[Finding]:
    """A small all-reduce over the ranks that Slurm started."""
    if not under_slurm() or int(os.environ.get("SLURM_NTASKS", "1")) == 1:
        return
    place = SLURMEnvironment(auto_requeue=False)
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = place.main_address, str(place.main_port)
    world = place.world_size()
    on_gpu = torch.cuda.is_available() and recipe.trainer.accelerator != "cpu"
    if on_gpu:
        torch.cuda.set_device(place.local_rank() % torch.cuda.device_count())
    advice = (
        f"{place.main_address} must be reached from all nodes at port {place.main_port}; "
        "see NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME"
    )
    try:
        timeout = datetime.timedelta(seconds=MEETING_SECONDS)
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            rank=place.global_rank(),
            world_size=world,
            timeout=timeout,
        )
        value = torch.ones(1_000_000, device="cuda" if on_gpu else "cpu")
        start = time.monotonic()
        dist.all_reduce(value)
        right = bool((value == world).all())
        seconds = time.monotonic() - start
        yield Finding(
            "all-reduce",
            "ok" if right else "fail",
            f"{world} ranks, 4 MB in {seconds * 1e3:.0f} ms",
            advice,
        )
        dist.destroy_process_group()
    except (RuntimeError, ValueError) as error:
        yield Finding("all-reduce", "fail", str(error).splitlines()[0][:120], advice)


def report(findings: list[Finding]) -> str:
    """One line a finding, what to do below those that need it."""
    lines = []
    for f in findings:
        lines.append(f"{f.state:<5} {f.what:<14} {f.seen}")
        if f.state != "ok" and f.advice:
            lines.append(f"      -> {f.advice}")
    return "\n".join(lines)


def failed(findings: list[Finding]) -> list[str]:
    return [f.what for f in findings if f.state == "fail"]
