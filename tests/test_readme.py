"""Every command of README.md works: each fenced `bash` line is run, shortened in the way stated here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
NOT_RUN = {"make test"}  # this test is part of it
READS_NOTHING_LONG = {"cost", "inspect", "verify"}  # run as they stand; other verbs with --dry-run


def commands(markdown: str) -> list[str]:
    """The lines of fenced ```bash blocks: continued lines joined, comments and a leading `$` dropped."""
    lines: list[str] = []
    for block in re.findall(r"^```bash\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "$":
                words = words[1:]
            if words:
                lines.append(shlex.join(words))
    return lines


def shortened(command: str) -> list[str] | None:
    """What is run in a command's place; None where nothing needs to be.

    `make` and `sbatch` lines are followed without being carried out (`make -n`, `bash -n` of the script), verbs that
    cost time get `--dry-run`, getting and entering a clone is left out.
    """
    words = shlex.split(command)
    if command in NOT_RUN or words[0] in ("git", "cd"):
        return None
    assert words[0] in ("make", "sbatch", "lcm-scale", ".venv/bin/lcm-scale"), f"no way known to test '{command}'"
    if words[0] == "make":
        return ["make", "-n", *words[1:]]
    if words[0] == "sbatch":
        return ["bash", "-n", words[1]]
    verb = words[1]
    return [sys.executable, "-m", "lcm_scale.cli", *words[1:], *([] if verb in READS_NOTHING_LONG else ["--dry-run"])]


def test_commands_are_found_joined_and_stripped() -> None:
    text = "a\n```bash\n# first\n$ make demo  # ten minutes\nlcm-scale cost \\\n  model=1b\n```\n```\nnot this\n```\n"
    assert commands(text) == ["make demo", "lcm-scale cost model=1b"]


def test_commands_are_shortened_as_stated() -> None:
    assert shortened("make demo") == ["make", "-n", "demo"]
    assert shortened("make test") is None
    assert shortened("lcm-scale pretrain recipes/demo.yaml")[-2:] == ["recipes/demo.yaml", "--dry-run"]
    assert shortened("lcm-scale cost model=1b")[-2:] == ["cost", "model=1b"]
    assert shortened("sbatch slurm/pretrain_1b.sh seed=1") == ["bash", "-n", "slurm/pretrain_1b.sh"]
    with pytest.raises(AssertionError):
        shortened("curl example.org")


@pytest.mark.parametrize("command", commands(README.read_text(encoding="utf-8")) if README.is_file() else [])
def test_every_readme_command_works(command: str) -> None:
    run = shortened(command)
    if run is None:
        return
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
