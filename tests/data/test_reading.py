"""Scans read by several processes, and by a run that goes on where a killed one was: the same set
to the last byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.config import ConnectivityConfig, GroupConfig, ShardRecipe, SourceConfig
from lcm_scale.data import collect, reading
from lcm_scale.data.recordings import Unread
from lcm_scale.data.shards import write_shards
from lcm_scale.errors import InputError

SCANS = 11


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Scans in windows, the last of them too short; one with a constant region."""
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = ["file,subject,diagnosis"]
    for number in range(SCANS):
        series = np.random.default_rng(number).normal(size=(70, 6))
        series[:, 2] *= number != 4
        np.savetxt(folder / f"p{number}.csv", series, delimiter=",")
        rows.append(f"p{number}.csv,P{number},{'AB'[number % 2]}")
    (folder / "scans.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(autouse=True)
def chunks_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "CHUNK", 4)


def recipe(raw: Path, to: str) -> ShardRecipe:
    return ShardRecipe(
        name="lab",
        reader="table",
        atlas="lab:6",
        source=SourceConfig(table=str(raw / "scans.csv")),
        connectivity=ConnectivityConfig(window=30, pad="drop", min_volumes=20),
        groups=[GroupConfig("diagnosis")],
        shards_dir=str(raw.parent / to),
    )


def whole(raw: Path, to: str) -> dict[str, bytes]:
    folder = raw.parent / to
    assert [p.name for p in folder.iterdir()] == ["lab"], "nothing else is left"
    return {p.name: p.read_bytes() for p in (folder / "lab").iterdir()}


def test_any_number_of_processes_writes_the_same_bytes(raw: Path) -> None:
    write_shards(recipe(raw, "one"), jobs=1)
    write_shards(recipe(raw, "three"), jobs=3)
    one, three = whole(raw, "one"), whole(raw, "three")
    for files in (one, three):  # says where it was written to
        files.pop("manifest.json")
    assert one == three


def test_the_first_bad_file_is_named_whoever_reads_it(raw: Path) -> None:
    for number in (3, 5):
        (raw / f"p{number}.csv").write_text("1,2\n3,x\n")
    with pytest.raises(InputError, match=r"p3\.csv: row 2, column 2 is 'x'"):
        write_shards(recipe(raw, "bad"), jobs=2)
    assert list((raw.parent / "bad").iterdir()) == []


def dies(scan: Unread, recipe: ShardRecipe, atlas: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_reading_process_that_is_killed_is_one_line(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system kills where memory is short."""
    monkeypatch.setattr(reading, "read", dies)
    with pytest.raises(InputError, match=r"a process that reads scans was killed.*--jobs 1"):
        write_shards(recipe(raw, "killed"), jobs=2)


@pytest.mark.parametrize("after", [1, 5, 9, 11])
def test_a_killed_run_goes_on_and_ends_the_same(
    raw: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(recipe(raw, "once"), jobs=1)
    read: list[str] = []
    original = reading.read

    def counted(scan: Unread, recipe: ShardRecipe, atlas: object) -> object:
        if len(read) == after:
            raise KeyboardInterrupt  # leaves as a kill does: nothing is tidied up
        read.append(scan.source)
        return original(scan, recipe, atlas)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(reading, "read", counted)
        if after < SCANS:
            with pytest.raises(KeyboardInterrupt):
                write_shards(recipe(raw, "once"), jobs=1)
    again: list[str] = []
    monkeypatch.setattr(
        reading,
        "read",
        lambda scan, recipe, atlas: (again.append(scan.source), original(scan, recipe, atlas))[1],
    )
    before = whole_but_parts(raw, "once")
    write_shards(recipe(raw, "once"), jobs=1)
    assert whole(raw, "once") == before
    assert len(again) == (SCANS - 4 * (after // 4) if after < SCANS else SCANS)


def whole_but_parts(raw: Path, to: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (raw.parent / to / "lab").iterdir()}


@pytest.mark.parametrize("what", ["file", "recipe", "damage"])
def test_what_has_changed_since_is_read_anew(
    raw: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(raw, 9, monkeypatch)
    made = recipe(raw, "set")
    parts = sorted((raw.parent / "set" / ".lab.parts").iterdir())
    assert len(parts) == 2
    if what == "file":
        np.savetxt(raw / "p1.csv", np.random.default_rng(99).normal(size=(70, 6)), delimiter=",")
    elif what == "recipe":
        made.connectivity.window = 35
    else:
        for part in parts:
            data = bytearray(part.read_bytes())
            data[len(data) // 2] ^= 255
            part.write_bytes(data)
    write_shards(made, jobs=1)
    fresh = recipe(raw, "fresh")
    fresh.connectivity.window = made.connectivity.window
    write_shards(fresh, jobs=1)
    ours, theirs = whole(raw, "set"), whole(raw, "fresh")
    assert ours["lab-000000.tar"] == theirs["lab-000000.tar"]


def stop_after(raw: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original, seen = reading.read, [0]

    def stopping(scan: Unread, recipe: ShardRecipe, atlas: object) -> object:
        seen[0] += 1
        if seen[0] > count:
            raise KeyboardInterrupt
        return original(scan, recipe, atlas)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(reading, "read", stopping)
        with pytest.raises(KeyboardInterrupt):
            write_shards(recipe(raw, "set"), jobs=1)


def test_parts_hold_no_name(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(raw, 9, monkeypatch)
    for part in (raw.parent / "set" / ".lab.parts").iterdir():
        with np.load(part) as file:
            text = bytes(file["facts"]).decode()
        assert "P1" not in text and "p1" not in text and str(raw) not in text


CODE = """
import sys, time
from pathlib import Path
from lcm_scale import config
from lcm_scale.data import collect, readers
from lcm_scale.data.shards import write_shards
collect.CHUNK = 4
write_shards(config.load(config.ShardRecipe, Path(sys.argv[1]), []), jobs=2)
"""


def test_sigkill_leaves_no_process_and_what_was_read(raw: Path) -> None:
    """The real thing: the collecting process is killed, its reading ones leave."""
    for number in range(SCANS):  # slow enough to be met at work
        series = np.random.default_rng(number).normal(size=(4000, 6))
        np.savetxt(raw / f"p{number}.csv", series, delimiter=",")
    path = raw / "recipe.yaml"
    path.write_text(
        f"name: lab\nreader: table\natlas: 'lab:6'\nsource: {{table: {raw / 'scans.csv'}}}\n"
        f"groups: [{{name: diagnosis}}]\nshards_dir: {raw.parent / 'real'}\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", CODE, str(path)], cwd=raw, stderr=subprocess.DEVNULL
    )
    parts = raw.parent / "real" / ".lab.parts"
    deadline = time.monotonic() + 60
    while child.poll() is None and not list(parts.glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.005)
    readers = descendants(child.pid)
    child.kill()
    child.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in readers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in readers if Path(f"/proc/{pid}").exists()]
    subprocess.run([sys.executable, "-c", CODE, str(path)], cwd=raw, check=True)
    assert [p.name for p in (raw.parent / "real").iterdir()] == ["lab"]


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found
