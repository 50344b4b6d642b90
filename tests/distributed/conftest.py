"""Real processes: each run goes through the command line, and Lightning starts the other ranks
(gloo, on CPU)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
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


@pytest.fixture
def run_cli(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """`run_cli("name", "trainer.devices=2", ...)` -> run folder, what was said on stderr beside it
    as `name`.err; fails where the exit code is not `code`.  `script`: in place of the command."""

    def call(
        name: str, *overrides: str, code: int = 0, phases: str = PHASES, script: Path | None = None
    ) -> Path:
        command = [
            sys.executable,
            *([str(script)] if script else ["-m", "lcm_scale.cli"]),
            "pretrain",
            str(tmp_path / "empty.yaml"),
            f"name={name}",
            f"runs_dir={tmp_path}/runs",
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
        (tmp_path / "empty.yaml").touch()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LCM_SALT_FILE": str(world / "salt")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == code, done.stderr[-3000:]
        folder = tmp_path / "runs" / name
        folder.with_suffix(".err").write_text(done.stderr)
        return folder

    return call
