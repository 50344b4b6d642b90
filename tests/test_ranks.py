"""Which process ends first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RANKS = Path(__file__).parents[1] / "src" / "lcm_scale" / "ranks.py"
# As Lightning starts the other ranks of a machine; the file alone is loaded, which takes no time.
FIRST = """
import os, subprocess, sys, time
child = f"import runpy; runpy.run_path({sys.argv[1]!r})['outlive_first'](); print('last', flush=True)"
rank = subprocess.Popen([sys.executable, "-c", child], env={**os.environ, "LOCAL_RANK": "1"})
time.sleep(0.7)
print("first", rank.poll(), flush=True)
"""


def test_a_rank_lets_the_process_that_started_it_end_before() -> None:
    alone = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "SLURM_PROCID")}
    command = [sys.executable, "-c", FIRST, str(RANKS)]
    done = subprocess.run(command, capture_output=True, text=True, env=alone, timeout=30)
    assert done.stdout.splitlines() == ["first None", "last"]
