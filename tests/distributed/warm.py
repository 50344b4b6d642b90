"""Ranks that need not import anything: this process has imported training and forks them.

It reads one line of JSON a run from stdin, and writes the first exit code that is not 0 to the file
whose number is its argument.

Importing torch, Lightning and DeepSpeed is most of what a small run costs. A forked rank is a real
process with its own gloo, started as torchrun would: its rank and its world are in the environment.
`test_ends` and Slurm's tests start theirs from nothing.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

import deepspeed  # noqa: F401
import lightning.pytorch.strategies  # noqa: F401

import lcm_scale.training.fit
import lcm_scale.training.parallel.zero  # noqa: F401
from lcm_scale.cli import main


def _serve() -> None:
    answers = os.fdopen(int(sys.argv[1]), "w")
    for line in sys.stdin:
        asked = json.loads(line)
        ranks = [_fork(asked, rank) for rank in range(asked["world"])]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks]
        answers.write(f"{next((code for code in codes if code), 0)}\n")
        answers.flush()


def _fork(asked: dict, rank: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.environ.update(asked["environment"])
        if asked["world"] > 1:
            os.environ.update(
                LOCAL_RANK=str(rank),
                RANK=str(rank),
                NODE_RANK="0",
                WORLD_SIZE=str(asked["world"]),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(asked["port"]),
            )
        sys.argv = ["lcm-scale", *asked["words"]]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
