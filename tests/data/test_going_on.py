"""A `shard` that was killed goes on: what was read is kept, and the set is the one that it would
have been."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.config import ConnectivityConfig, QualityConfig, ShardRecipe
from lcm_scale.data import building, journal, marks, reading, shards, store
from lcm_scale.data.shards import prepare_shards, write_shards
from lcm_scale.errors import InputError

PEOPLE = 6


@pytest.fixture(autouse=True)
def written_at_once(monkeypatch) -> None:
    """Every scan is kept as soon as it is read."""
    monkeypatch.setattr(journal, "SECONDS", 0.0)


def in_a_child(do: Callable[[], Any]) -> int:
    """Runs a function in a forked process.  Returns: the process's number."""
    child = os.fork()
    if child == 0:
        try:
            do()
        finally:
            os._exit(0)
    return child


def killed_at(monkeypatch, where: Any, name: str, call: int, before: bool, do: Callable) -> None:
    """Runs a function in a process that is killed by SIGKILL at a call of another function."""
    real, calls = getattr(where, name), 0

    def killing(*args: Any, **keys: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **keys)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(where, name, killing)
        _, status = os.waitpid(in_a_child(do), 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@contextmanager
def counted_reads(monkeypatch) -> Iterator[list[str]]:
    """The files that are opened meanwhile."""
    seen: list[str] = []
    real = reading.read

    def counting(scan: Any, **keys: Any) -> Any:
        seen.append(Path(scan.source).name)
        return real(scan, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "read", counting)
        yield seen


def hidden(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "shards").glob(".*")]


@pytest.fixture
def of_windows(tiny_recipe) -> ShardRecipe:
    """Two windows a scan, and a short one that is left out; one person is left out as well."""
    cut = ConnectivityConfig(window=18, min_volumes=18, pad="drop")
    return tiny_recipe(
        people=PEOPLE, connectivity=cut, quality=QualityConfig(max_mean_abs_r=0.99), shard_scans=5
    )


@pytest.mark.parametrize(
    ("where", "name", "call", "before", "unread"),
    [
        (reading, "read", 1, True, PEOPLE),
        (reading, "read", 4, True, 3),
        (journal, "write_atomic", 4, True, 3),
        (journal, "write_atomic", 4, False, 2),
        (store, "append", 1, True, 0),
        (store, "append", 1, False, 0),
        (shards, "write_tar", 2, True, 0),
        (shards, "write_atomic", 1, False, 0),
        (building, "_put", 1, True, 0),
        (building, "_put", 1, False, 0),
    ],
)
def test_after_a_kill_at_any_moment_the_set_is_byte_for_byte_the_same_and_little_is_read_again(
    where, name, call, before, unread, of_windows, shard_bytes, tmp_path, monkeypatch
) -> None:
    whole = replace(of_windows, shards_dir=str(tmp_path / "whole"))
    write_shards(whole)
    killed_at(monkeypatch, where, name, call, before, lambda: write_shards(of_windows))
    with counted_reads(monkeypatch) as opened:
        write_shards(of_windows)
    assert len(opened) == unread
    assert shard_bytes(tmp_path / "shards" / "tiny") == shard_bytes(tmp_path / "whole" / "tiny")
    assert hidden(tmp_path) == []


def test_a_kill_between_two_renames_loses_neither_set(
    tiny_recipe, shard_bytes, tmp_path, monkeypatch
) -> None:
    made = tiny_recipe(people=3)
    write_shards(made)
    before = shard_bytes(tmp_path / "shards")
    killed_at(monkeypatch, Path, "rename", 1, False, lambda: write_shards(made))
    assert not (tmp_path / "shards" / "tiny").exists()
    write_shards(made)
    assert shard_bytes(tmp_path / "shards") == before


def test_it_says_that_it_goes_on_and_where(tiny_recipe, monkeypatch, capsys) -> None:
    made = tiny_recipe(people=PEOPLE)
    killed_at(monkeypatch, reading, "read", 5, True, lambda: write_shards(made))
    write_shards(made)
    assert (
        f"tiny: goes on where an earlier run ended: 4 of {PEOPLE} scans are read already"
        in capsys.readouterr().err
    )


def test_what_is_kept_names_nobody(of_windows, tmp_path, monkeypatch) -> None:
    killed_at(monkeypatch, shards, "write_tar", 1, True, lambda: write_shards(of_windows))
    work = tmp_path / "shards" / ".tiny.partial"
    parts = sorted(work.glob("*.npz"))
    assert len(parts) == PEOPLE
    for file in (path for path in work.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert b"scan-of-" not in content and b"00" + b"1" not in _texts(file)
        assert str(tmp_path).encode() not in content


def _texts(part: Path) -> bytes:
    """The words of a part that could name somebody; hashes left out."""
    if part.suffix != ".npz":
        return b""
    with np.load(part, allow_pickle=False) as content:
        words = content["entries"].tobytes().decode()
    return "".join(word for word in words.split('"') if len(word) < 16).encode()


def test_a_changed_file_is_read_anew_and_said(
    tiny_recipe, bold, shard_bytes, tmp_path, monkeypatch, capsys
) -> None:
    made = tiny_recipe(people=PEOPLE)
    killed_at(monkeypatch, shards, "write_tar", 1, True, lambda: write_shards(made))
    np.save(Path(made.source.table or "").parent / "scan-of-2-1.npy", bold(9, 41))
    with counted_reads(monkeypatch) as opened:
        write_shards(made)
    assert opened == ["scan-of-2-1.npy"]
    assert "tiny: 1 scans that an earlier run had read are not taken" in capsys.readouterr().err
    again = replace(made, shards_dir=str(tmp_path / "again"))
    write_shards(again)
    assert shard_bytes(tmp_path / "shards" / "tiny") == shard_bytes(tmp_path / "again" / "tiny")


@pytest.mark.parametrize("what", ["recipe", "program"])
def test_under_another_recipe_or_program_all_is_read_anew(
    what, tiny_recipe, monkeypatch, capsys
) -> None:
    made = tiny_recipe(people=PEOPLE)
    killed_at(monkeypatch, shards, "write_tar", 1, True, lambda: write_shards(made))
    if what == "recipe":
        made = replace(made, connectivity=ConnectivityConfig(crop=35))
    else:
        monkeypatch.setattr(marks, "program", lambda: "a later version")
    with counted_reads(monkeypatch) as opened:
        write_shards(made)
    assert len(opened) == PEOPLE
    assert f"{PEOPLE} scans that an earlier run had read are not taken" in capsys.readouterr().err


def test_after_a_bad_file_the_others_are_not_read_again(
    tiny_recipe, shard_bytes, tmp_path, monkeypatch
) -> None:
    """What is mended may be the file, the table, or the recipe's answer to bad files."""
    made = tiny_recipe(people=PEOPLE)
    (Path(made.source.table or "").parent / "scan-of-5-1.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"scan-of-5-1\.npy"):
        write_shards(made)
    table = Path(made.source.table or "")
    table.write_text(table.read_text().replace("Autism", "ASD"))
    skipping = replace(made, source=replace(made.source, on_error="skip"))
    with counted_reads(monkeypatch) as opened:
        assert write_shards(skipping).scans == PEOPLE - 1
    assert opened == ["scan-of-5-1.npy", "scan-of-6-1.npy"]
    assert hidden(tmp_path) == []


def test_a_damaged_part_is_read_again(tiny_recipe, tmp_path, monkeypatch) -> None:
    made = tiny_recipe(people=PEOPLE)
    killed_at(monkeypatch, shards, "write_tar", 1, True, lambda: write_shards(made))
    work = tmp_path / "shards" / ".tiny.partial"
    first, second, *_ = sorted(work.glob("*.npz"))
    first.write_bytes(first.read_bytes()[:100])
    with counted_reads(monkeypatch) as opened:
        write_shards(made)
    assert opened == ["scan-of-1-1.npy"] and hidden(tmp_path) == []
    assert second.name == "read-000001.npz"


def test_damaged_matrices_are_named_with_what_to_do(tiny_recipe, tmp_path, monkeypatch) -> None:
    made = tiny_recipe(people=PEOPLE)
    killed_at(monkeypatch, shards, "write_tar", 1, True, lambda: write_shards(made))
    part = tmp_path / "shards" / ".tiny.partial" / "read-000002.npz"
    content = bytearray(part.read_bytes())
    with np.load(part) as arrays:
        place = bytes(content).find(arrays["triangles"].tobytes())
    content[place] ^= 1
    part.write_bytes(content)
    with pytest.raises(InputError, match=r"read-000002\.npz: .*remove this file, and the same"):
        write_shards(made)
    part.unlink()
    assert write_shards(made).scans == PEOPLE


def test_quick_sets_keep_nothing_on_the_way(tiny_recipe, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(journal, "SECONDS", 10.0)
    made = tiny_recipe(people=3)
    killed_at(monkeypatch, shards, "write_tar", 1, True, lambda: write_shards(made))
    assert not list((tmp_path / "shards" / ".tiny.partial").glob("*.npz"))
    assert write_shards(made).scans == 3


def test_what_a_killed_lock_left_beside_itself_goes_too(tiny_recipe, tmp_path) -> None:
    work = tmp_path / "shards" / ".tiny.partial"
    work.mkdir(parents=True)
    (work / "lock.turn").write_bytes(b"")
    (work / "lock.0a1b2c3d").write_bytes(b"")
    write_shards(tiny_recipe(people=3))
    assert hidden(tmp_path) == []


def test_two_processes_cannot_shard_one_set(tiny_recipe, tmp_path, monkeypatch) -> None:
    made = tiny_recipe(people=3)
    lock = tmp_path / "shards" / ".tiny.partial" / "lock"
    with monkeypatch.context() as patch:
        patch.setattr(shards, "fill_store", lambda *args: time.sleep(60))
        other = in_a_child(lambda: write_shards(made))
    try:
        while not lock.is_file() or not lock.read_bytes():
            time.sleep(0.01)
        for refused in (write_shards, prepare_shards):  # the latter is the dry run's
            with pytest.raises(InputError, match=rf"\.tiny\.partial: in use by process {other} "):
                refused(made)
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
    assert write_shards(made).scans == 3
