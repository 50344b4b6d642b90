"""A real Slurm of two nodes on this machine, and a clone of this tree whose shipped scripts are
submitted to it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from lcm_scale.config import Recipe, load
from lcm_scale.data.sets import open_sets, split_subjects
from lcm_scale.training.run_log import read_log

ROOT = Path(__file__).parents[2]
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
AuthType=auth/munge
# Else a requeued job waits until its credential has expired, two minutes.
AuthInfo=cred_expire=5,socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=15
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldPort=16817
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=17001-17002 CPUs=2 RealMemory=4000
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def install() -> None:
    """slurm-wlm and munge, unless they are there; skips where they cannot be had."""
    if all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in NEEDED):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip(
            "no Slurm here, and it cannot be installed (needs root and apt-get: slurm-wlm munge)"
        )
    subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=False)
    command = ["apt-get", "install", "-qy", "--no-install-recommends", "slurm-wlm", "munge"]
    done = subprocess.run(
        command, capture_output=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    )
    if done.returncode:
        pytest.skip("no Slurm here, and apt-get cannot install slurm-wlm and munge")


@dataclass(frozen=True)
class Cluster:
    """Commands against the test's own Slurm."""

    environment: dict[str, str]

    def __call__(self, *command: str, check: bool = True, cwd: Path | None = None) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, cwd=cwd
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def state(self, job: str) -> str:
        return self("scontrol", "show", "job", job).partition("JobState=")[2].split()[0]

    def wait(self, job: str, states: set[str], seconds: float = 150.0) -> str:
        end = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            assert time.monotonic() < end, (
                f"job {job} is {state}, not {states}\n{self('scontrol', 'show', 'job', job)}"
            )
            time.sleep(0.5)
        return state


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    install()
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "state").mkdir()
    for node in ("n1", "n2"):
        (folder / f"spool-{node}").mkdir()
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    (folder / "slurm.conf").write_text(
        CONFIG.format(host=socket.gethostname(), folder=folder, user=os.environ.get("USER", "root"))
    )
    environment = {
        **os.environ,
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{os.environ['PATH']}:/usr/sbin",
    }
    munge = [
        "munged",
        "--force",
        "--foreground",
        f"--key-file={key}",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munged.pid",
        f"--seed-file={folder}/munged.seed",
        f"--log-file={folder}/munged.log",
    ]
    daemons = [["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]]
    log = (folder / "daemons.log").open("w")
    processes = [subprocess.Popen(munge, env=environment, stdout=log, stderr=log)]
    cluster = Cluster(environment)
    try:
        time.sleep(1.0)
        for daemon in daemons:
            processes.append(subprocess.Popen(daemon, env=environment, stdout=log, stderr=log))
        end = time.monotonic() + 30
        while "2  idle" not in " ".join(
            cluster("sinfo", "-h", "-o", "%D  %T", check=False).split("\n")
        ):
            assert time.monotonic() < end, (folder / "daemons.log").read_text()[-2000:]
            time.sleep(0.5)
        yield cluster
        cluster("scancel", "--user", os.environ.get("USER", "root"), check=False)
        time.sleep(1.0)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree as a clean git checkout, uncommitted work included."""
    folder = tmp_path_factory.mktemp("checkout")
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in names.stdout.splitlines():
        if (
            name.split("/")[0] in ("src", "recipes", "slurm", "README.md", ".gitignore")
            and (ROOT / name).is_file()
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "as tested"]):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command],
            cwd=folder,
            check=True,
        )
    return folder


@dataclass(frozen=True)
class Desk:
    """Where a user sits: submits the shipped scripts with small overrides and looks at the run
    folder."""

    SMALL: ClassVar[tuple[str, ...]] = (
        "data=[first]",
        "model.preset=tiny",
        "model.width=16",
        "model.heads=2",
        "model.ffn=16",
        "trainer.global_batch=8",
        "trainer.accelerator=cpu",
        "trainer.threads=1",
        "optim.momentum.lr=1e-3",
        "optim.adaptive.lr=1e-3",
    )
    EPOCHS = 60  # 5 steps each, some 10 seconds

    cluster: Cluster
    checkout: Path
    runs: Path
    site: Path

    @staticmethod
    def lasting(epochs: int) -> str:
        """The override with which a run takes so many epochs, half of them in each stage."""
        half = epochs // 2
        return (
            f"phases=[{{name: momentum, epochs: {half}, stage: momentum}}, "
            f"{{name: adaptive, epochs: {half}}}]"
        )

    @property
    def LONG(self) -> str:
        """A run that something can happen to."""
        return self.lasting(self.EPOCHS)

    def sbatch(self, script: str, *words: str, options: tuple[str, ...] = (), **site: str) -> str:
        """Submit a shipped script with these words behind its name; returns the job's number."""
        environment = {**self.cluster.environment, "LCM_SITE": str(self.site), **site}
        # This cluster has no GPUs and little memory; what a script asks for, an option overrides.
        command = [
            "sbatch",
            "--parsable",
            "--gpus-per-node=0",
            "--mem=0",
            "--cpus-per-task=1",
            *options,
            f"slurm/{script}.sh",
            *words,
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=self.checkout
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().split(";")[0]

    def submit(
        self, script: str, name: str, *overrides: str, options: tuple[str, ...] = (), **site: str
    ) -> str:
        """`sbatch` of a small run of that name."""
        return self.sbatch(script, f"name={name}", *self.SMALL, *overrides, options=options, **site)

    def output(self, job: str) -> str:
        """What the job printed so far."""
        return "".join(p.read_text() for p in self.checkout.glob(f"slurm-*-{job}.out"))

    def resumes(self, name: str | Path) -> int:
        """How often a run went on.  Args: name: below the runs folder, or a folder."""
        return (self.runs / name / "log.jsonl").read_text().count('"event": "resumed"')

    def assert_nothing_lost(self, name: str, epochs: int) -> None:
        """From the run's own log: every step once and in order, every scan of every epoch once."""
        recipe = load(Recipe, self.runs / name / "recipe.yaml")
        sets = open_sets(recipe.data)
        train, _ = split_subjects(sets, sets.scans_of([]), recipe.data.validation, recipe.seed)
        log = read_log(self.runs / name / "log.jsonl")
        steps = [event for event in log if event["event"] == "step"]
        assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
        for epoch in range(epochs):
            consumed = [tuple(step["consumed"]) for step in steps if step["epoch"] == epoch]
            edges = [0, *(stop for _, stop in consumed)]
            assert consumed == list(itertools.pairwise(edges))
            assert edges[-1] == len(train)

    def steps(self, name: str) -> int:
        log = self.runs / name / "log.jsonl"
        return log.read_text().count('"event": "step"') if log.is_file() else 0

    def minutes(self, job: str) -> int:
        """Whole minutes that the job has run."""
        shown = self.cluster("scontrol", "show", "job", job)
        hours, minutes, _ = shown.partition(" RunTime=")[2].split()[0].rpartition("-")[2].split(":")
        return int(hours) * 60 + int(minutes)

    @contextmanager
    def paused(self, name: str) -> Iterator[list[int]]:
        """Its ranks stand still within; yields their process numbers."""
        pattern = f"lcm-scale pretrain .*name={name} "
        found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True).stdout
        # srun bears the same words; it has to pass the warning on.
        ranks = [int(pid) for pid in found.split() if "python" in _program(int(pid))]
        assert ranks
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)
        try:
            yield ranks
        finally:
            for rank in ranks:
                os.kill(rank, signal.SIGCONT)

    def wait_for_a_warning(self, ranks: list[int], job: str, seconds: float = 90.0) -> None:
        """Until SIGUSR1 waits for each of these processes, which stand still."""
        end = time.monotonic() + seconds
        while not all(_waits_for(rank, signal.SIGUSR1) for rank in ranks):
            assert time.monotonic() < end, self.output(job)
            time.sleep(0.5)

    def wait_for_steps(self, name: str, steps: int, job: str, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while self.steps(name) < steps:
            state = self.cluster.state(job)
            assert state in ("PENDING", "CONFIGURING", "RUNNING"), f"{state}\n{self.output(job)}"
            assert time.monotonic() < end, self.output(job)
            time.sleep(0.2)


def _program(pid: int) -> str:
    return str(Path(f"/proc/{pid}/exe").readlink())


def _waits_for(pid: int, which: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    waiting = next(line for line in lines if line.startswith("ShdPnd"))
    return bool(int(waiting.split()[1], 16) >> (which - 1) & 1)


@pytest.fixture
def desk(cluster: Cluster, checkout: Path, world: Path, tmp_path: Path) -> Desk:
    site = tmp_path / "site.env"
    site.write_text(
        f'LCM_VENV="{sys.prefix}"\nLCM_SHARDS="{world}/shards"\n'
        f'LCM_RUNS="{tmp_path}/runs"\nLCM_MIN_SECONDS=1\n'
        "export OMP_NUM_THREADS=1 MASTER_ADDR=127.0.0.1\n"
    )
    return Desk(cluster, checkout, tmp_path / "runs", site)
