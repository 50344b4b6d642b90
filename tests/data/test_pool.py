"""Files read by several processes: the set is that of one, its errors too, and no process is left
behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from threadpoolctl import threadpool_info

from lcm_scale.data import pool
from lcm_scale.data.pool import in_order
from lcm_scale.data.shards import write_shards
from lcm_scale.errors import InputError


def square(number: int) -> int:
    if number < 0:
        raise InputError(f"{number} is below 0")
    return number * number


def threads(_: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def blas_threads(_: int) -> int:
    return max(library["num_threads"] for library in threadpool_info())


def die(number: int) -> int:
    if number == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_set_has_the_same_bytes_however_many_processes_read_it(
    tmp_path, bold, write_csv, recipe, shard_bytes
) -> None:
    """MATLAB files, whose reader is a process of its own, among them."""
    rows = []
    for i in range(14):
        file = tmp_path / f"scan-{i}.{'mat' if i % 2 else 'npy'}"
        if i % 2:
            savemat(file, {"series": bold(i)})
        else:
            np.save(file, bold(i))
        rows.append({"file": file.name, "subject": f"P{i}", "diagnosis": "ab"[i % 2]})
    table = write_csv(tmp_path / "scans.csv", rows)
    made = recipe(reader="table", table=table)
    written = {}
    for jobs in (1, 2, 3):
        write_shards(replace(made, shards_dir=str(tmp_path / str(jobs))), jobs)
        written[jobs] = shard_bytes(tmp_path / str(jobs))
    assert written[1] == written[2] == written[3]
    assert "tiny/tiny.h5" in written[1]


def test_the_first_mistake_in_order_is_the_one_that_is_said() -> None:
    items = [*range(10), -1, *range(10), -2]
    with closing(in_order(square, items, 2)) as results:
        for number in range(10):
            assert next(results) == number**2
        with pytest.raises(InputError, match=r"^-1 is below 0$"):
            next(results)


def test_processes_have_one_thread_each_and_this_one_keeps_its_own(monkeypatch) -> None:
    """Products of several threads may differ from those of one in the last bit."""
    before = blas_threads(0)
    assert set(in_order(blas_threads, [0] * 3, 1)) == {1}
    assert blas_threads(0) == before
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert list(in_order(threads, [0] * 5, 2)) == ["1"] * 5
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_a_process_that_the_system_ends_is_one_line() -> None:
    with pytest.raises(InputError, match=r"ended one of 2 processes .*memory short.*--jobs 1"):
        list(in_order(die, range(20), 2))


def test_quick_work_starts_no_process(monkeypatch) -> None:
    monkeypatch.setattr(pool, "_spread", None)
    assert list(in_order(square, range(30), None)) == [n * n for n in range(30)]
    assert list(in_order(square, [3], 8)) == [9]
    assert list(in_order(square, [], None)) == []


def test_slow_work_is_spread_over_as_many_as_help(monkeypatch) -> None:
    started = []

    def spread(work, items, jobs):
        started.append(jobs)
        return map(work, items)

    monkeypatch.setattr(pool, "ALONE", 0.05)
    monkeypatch.setattr(pool, "EACH", 0.5)
    monkeypatch.setattr(pool, "_spread", spread)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(pool.time, "monotonic", iter(np.arange(0, 100, 0.1)).__next__)
    assert list(in_order(square, range(31), None)) == [n * n for n in range(31)]
    assert started == [6]  # the first took a tenth of a second, thirty others are left


# A shell's background job, as CI may be, ignores Ctrl-C, and so do its children.
SLEEPING = """
if __name__ == "__main__":
    import signal, time
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from lcm_scale.data.pool import in_order
    for _ in in_order(time.sleep, [0.0] * 4 + [60.0] * 4, 2):
        print("at work", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_started_it(how, tmp_path: Path) -> None:
    script = tmp_path / "sleeping.py"
    script.write_text(SLEEPING)
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None and parent.stdout.readline() == b"at work\n"
    workers = _children(parent.pid)
    assert len(workers) >= 4  # with that one, and the one that watches over shared memory
    if how == signal.SIGINT:  # a terminal sends it to all of them
        os.killpg(parent.pid, how)
    else:
        parent.send_signal(how)
    said = parent.communicate(timeout=60)[1].decode()
    deadline = time.monotonic() + 20
    while any(map(_lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if _lives(pid)]
    # A signal in the middle of an import is told of twice, once as an exception that is ignored.
    told = said.count("Traceback") - said.count("Exception ignored in")
    assert told <= (how == signal.SIGINT), said


def _children(pid: int) -> list[int]:
    """With theirs: those at work are children of one that imported what they need."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    own = [int(n) for n in text.split()]
    return [*own, *(n for child in own for n in _children(child))]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
