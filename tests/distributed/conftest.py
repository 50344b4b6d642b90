"""Real processes: each run goes through the command line, on as many ranks as it asks for (gloo, on
CPU)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Wide enough that stage 3 cuts the matrices; dropout off, since it is drawn per rank.
MODEL = [
    "model.width=64",
    "model.heads=4",
    "model.ffn=32",
    "model.dropout=0.0",
    "model.edge_dropout=0.0",
    "model.edge_branch=true",
]
# The optimiser's stage, the readout, the active targets, the scans and pseudo-labels all switch in
# the middle.
PHASES = (
    "phases=[{name: pretrain, epochs: 2, stage: momentum, sets: [first], targets: [eye_status, "
    "sex, age]},"
    "{name: finetune, epochs: 3, readout: adaptive, sets: [first, second], pseudo_labels: true}]"
)


class WarmRanks:
    """The process that forks them; close it."""

    def __init__(self) -> None:
        answers, theirs = os.pipe()
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py")), str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # DeepSpeed speaks there
            pass_fds=[theirs],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            text=True,
        )
        os.close(theirs)
        self._answers = os.fdopen(answers)

    def run(self, words: list[str], world: int, environment: dict[str, str], said: Path) -> int:
        """`lcm-scale WORDS` on so many ranks; returns the first exit code that is not 0.

        Args:
            said: gets what they write to stderr.
        """
        assert self._server.stdin is not None
        asked = {
            "words": words,
            "world": world,
            "environment": environment,
            "port": _free_port(),
            "said": str(said),
        }
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        return int(self._answers.readline())

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._answers.close()
        self._server.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def warm_ranks() -> Iterator[WarmRanks]:
    ranks = WarmRanks()
    yield ranks
    ranks.close()


def _words(name: str, world: Path, folder: Path, phases: str, overrides: tuple[str, ...]) -> list:
    (folder / "empty.yaml").touch()
    return [
        "pretrain",
        str(folder / "empty.yaml"),
        f"name={name}",
        f"runs_dir={folder}/runs",
        f"data.shards_dir={world}/shards",
        "data=[first, second]",
        *MODEL,
        phases,
        "trainer.global_batch=12",
        "objective.scalar_scale=standardised",
        "objective.scalar_weight=1.0",
        "optim.clip_norm=1.0",
        "optim.adaptive.lr=1e-3",
        "trainer.threads=1",
        *overrides,
    ]


@pytest.fixture
def run_cli(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """`run_cli("name", "trainer.devices=2", ...)` -> run folder, what was said on stderr beside it
    as `name`.err; fails where the exit code is not `code`.  Lightning starts the other ranks.
    `script`: in place of the command."""

    def call(
        name: str, *overrides: str, code: int = 0, phases: str = PHASES, script: Path | None = None
    ) -> Path:
        command = [
            sys.executable,
            *([str(script)] if script else ["-m", "lcm_scale.cli"]),
            *_words(name, world, tmp_path, phases, overrides),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LCM_SALT_FILE": str(world / "salt")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == code, done.stderr[-3000:]
        folder = tmp_path / "runs" / name
        folder.with_suffix(".err").write_text(done.stderr)
        return folder

    return call


@pytest.fixture
def run_warm(world: Path, tmp_path: Path, warm_ranks: WarmRanks) -> Callable[..., Path]:
    """As `run_cli`, on ranks that are there already.  environment: more of it."""

    def call(name: str, *overrides: str, environment: dict[str, str] | None = None) -> Path:
        devices = [o.partition("=")[2] for o in overrides if o.startswith("trainer.devices=")]
        folder, said = tmp_path / "runs" / name, tmp_path / f"{name}.err"
        code = warm_ranks.run(
            _words(name, world, tmp_path, PHASES, overrides),
            int(devices[-1]) if devices else 1,
            {"LCM_SALT_FILE": str(world / "salt"), **(environment or {})},
            said,
        )
        assert code == 0, said.read_text()[-3000:]
        return folder

    return call
