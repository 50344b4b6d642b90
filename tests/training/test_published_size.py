"""The smallest published size for real: three steps on this CPU within 8 GB, and its checkpoint
goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Prints the peak memory of the run alone, which the children of a whole test session would hide.
MEASURED = (
    "import resource, sys; from lcm_scale import cli\n"
    "try: cli.main()\n"
    "finally: print('peak kB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


@pytest.mark.slow
def test_147m_takes_three_steps_within_8_gb_and_resumes(world: Path, tmp_path: Path) -> None:
    def pretrain(steps: int) -> int:
        command = [
            sys.executable,
            "-c",
            MEASURED,
            "pretrain",
            str(ROOT / "recipes" / "pretrain_147m.yaml"),
            f"runs_dir={tmp_path}",
            f"data.shards_dir={world}/shards",
            "data=first",
            f"trainer.max_steps={steps}",
        ]
        environment = {**os.environ, "LCM_SALT_FILE": str(world / "salt")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
        return int(done.stdout.rpartition("peak kB")[2])

    assert pretrain(3) < 8e6
    assert pretrain(4) < 8e6
    events = [
        json.loads(line)
        for line in (tmp_path / "pretrain_147m" / "log.jsonl").read_text().splitlines()
    ]
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4]
    assert [event["event"] for event in events].count("resumed") == 1
