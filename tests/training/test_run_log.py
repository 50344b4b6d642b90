"""The log as a file: what counts after resumes, and a table that grows with it without being made
anew."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lcm_scale.config import Recipe
from lcm_scale.data.module import ConnectomeData
from lcm_scale.data.sets import ShardSets
from lcm_scale.training import fit as run
from lcm_scale.training import run_log
from lcm_scale.training.run_log import Lines, Metrics, epochs_of, read_log


def event(name: str, **values: object) -> str:
    return json.dumps({"event": name, **values}) + "\n"


def write(folder: Path, *lines: str) -> Path:
    log = folder / "log.jsonl"
    log.write_text("".join(lines), encoding="utf-8")
    return log


def by_reading_everything(log: Path) -> list[dict[str, object]]:
    """The plain way to the epoch rows: every line parsed."""
    return [
        {key: value for key, value in line.items() if key != "event"}
        for line in read_log(log)
        if line["event"] == "epoch"
    ]


def test_epochs_that_a_resume_took_back_do_not_count(tmp_path: Path) -> None:
    log = write(
        tmp_path,
        event("step", step=1, loss=2.0),
        event("epoch", epoch=0, step=1, train_loss=2.0),
        event("step", step=2, loss=1.0),
        event("epoch", epoch=1, step=2, train_loss=1.0),
        event("resumed", step=1, epoch=1, world=1),
        event("step", step=2, loss=1.5),
        event("epoch", epoch=1, step=2, train_loss=1.5),
    )
    assert [row["train_loss"] for row in epochs_of(log)] == [2.0, 1.5]
    assert epochs_of(log) == by_reading_everything(log)


def test_a_line_is_in_the_file_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    log = write(tmp_path, event("step", step=1, loss=2.0), '{"event": "st')
    lines = Lines(log)
    for number in (2, 3):
        lines.append(event("step", step=number, loss=1.0).rstrip())
        assert log.read_bytes().endswith(event("step", step=number, loss=1.0).encode())
    lines.close()
    assert len(log.read_bytes().splitlines()) == 4  # the torn one was ended
    log.write_bytes(log.read_bytes() + b"torn")
    lines.append("{}")
    assert log.read_bytes().endswith(b"torn\n{}\n")


def test_a_log_is_closed_when_its_second_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = run_log.FileIO
    monkeypatch.setattr(run_log, "FileIO", lambda *a: opened.append("") or real(*a))
    now = [0.0]
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now[0])
    lines = Lines(tmp_path / "log.jsonl")
    for now[0] in (0.0, 0.9, 1.1, 1.2):
        lines.append("{}")
    assert len(opened) == 2
    lines.close()


def test_what_is_left_of_a_line_that_was_cut_is_written_too(tmp_path: Path) -> None:
    """A system may take a part of what it is given."""
    lines = Lines(tmp_path / "log.jsonl")
    lines.append("first")
    handle = lines._handle

    class Slow:
        def write(self, data: bytes) -> int:
            return handle.write(data[:3])

        def close(self) -> None:
            handle.close()

    lines._handle = Slow()  # type: ignore[assignment]
    lines.append("a longer line")
    assert (tmp_path / "log.jsonl").read_text() == "first\na longer line\n"
    lines.close()


def test_the_table_is_the_logs_after_every_epoch(tmp_path: Path) -> None:
    table, lines = Metrics(tmp_path), []
    rows = [
        {"epoch": 0, "step": 5, "train_loss": 2.0},
        {"epoch": 1, "step": 10, "train_loss": 1.5},
        {"epoch": 2, "step": 15, "train_loss": 1.25, "val_loss: a, b": 0.5},
        {"epoch": 3, "step": 20, "train_loss": 1.0, "val_loss: a, b": 0.25},
        {"epoch": 4, "step": 25, "train_loss": 0.5},
    ]
    for row in rows:
        lines.append(event("epoch", **row))
        write(tmp_path, *lines)
        table.append(row)
        anew = Metrics(tmp_path)
        there = (tmp_path / "metrics.csv").read_bytes()
        anew.rewrite()
        assert (tmp_path / "metrics.csv").read_bytes() == there
    with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert last == {"epoch": "4", "step": "25", "train_loss": "0.5", "val_loss: a, b": ""}


def test_a_run_reads_its_log_once_a_phase_and_its_sets_once(
    recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What grows with the steps behind or with the set is no work of a step or of an epoch."""
    read, selected, planned = [], [], []
    monkeypatch.setattr(
        run_log, "epochs_of", lambda log, plain=epochs_of: read.append(log) or plain(log)
    )
    monkeypatch.setattr(
        ShardSets,
        "scans_of",
        lambda self, names, plain=ShardSets.scans_of: selected.append(names) or plain(self, names),
    )
    monkeypatch.setattr(
        ConnectomeData,
        "plan",
        lambda self, epoch, plain=ConnectomeData.plan: planned.append(epoch) or plain(self, epoch),
    )
    prepared = run.prepare(recipe("trainer.max_epochs=4", "data.validation=0.2"))
    before = len(selected)
    run.fit(prepared)
    assert len(planned) > 20  # asked at every step,
    assert len(selected) - before == 1  # looked up once: both phases see all sets
    assert len(read) <= 2  # the columns of the validation losses are the same in both phases


@pytest.mark.parametrize("line", ['{"event": []}', '{"event": {}}', "[" * 100_000, "3", "null"])
def test_a_line_that_is_no_event_costs_that_line(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = event("step", step=1, loss=2.0)
    assert read_log(write(tmp_path, good, line + "\n")) == [json.loads(good)]
    assert "line 2 cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["middle", "quote", "key", "word"])
def test_a_line_with_a_bad_byte_costs_that_line_and_is_named(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the line is no UTF-8 any more, no JSON, or JSON that says something else."""
    lines = [
        event("step", step=1, loss=2.0),
        event("step", step=2, loss=1.5),
        event("epoch", epoch=0, step=2, train_loss=1.75),
        event("step", step=3, loss=1.25),
        event("step", step=4, loss=1.0),
        event("epoch", epoch=1, step=4, train_loss=1.125),
    ]
    whole = read_log(write(tmp_path, *lines))
    damage = {
        "middle": lambda line: line[:20] + b"\xff" + line[21:],
        "quote": lambda line: line.replace(b'"step"', b'"step ', 1),
        "key": lambda line: line.replace(b"loss", b"lost"),
        "word": lambda line: line.replace(b'"event": "', b'"event": "x', 1),
    }[place]
    for number in range(len(lines)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        log = folder / "log.jsonl"
        data = [line.encode() for line in lines]
        log.write_bytes(b"".join([*data[:number], damage(data[number]), *data[number + 1 :]]))
        before = log.read_bytes()
        assert read_log(log) == whole[:number] + whole[number + 1 :]
        assert f"{log}: line {number + 1} cannot be read" in capsys.readouterr().err
        assert epochs_of(log) == by_reading_everything(log)
        assert "cannot" not in capsys.readouterr().err  # told once
        assert log.read_bytes() == before


def test_an_unreadable_line_is_named_by_whoever_reads_epochs_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path, event("step", step=1, loss=2.0), '{"event": "step", "ste\n')
    assert epochs_of(log) == []
    assert f"{log}: line 2 cannot be read" in capsys.readouterr().err


def test_a_resume_whose_line_is_lost_doubles_nothing(tmp_path: Path) -> None:
    def attempt(*steps: int) -> list[str]:
        return [event("step", step=step, loss=float(step)) for step in steps]

    log = write(
        tmp_path,
        *attempt(1, 2),
        event("epoch", epoch=0, step=2, train_loss=1.5),
        *attempt(3, 4),
        event("epoch", epoch=1, step=4, train_loss=3.5),
        *attempt(5),
        '{"event": "resumed", "step": 3, "ep\n',
        *attempt(4),
        event("epoch", epoch=1, step=4, train_loss=4.5),
        *attempt(5, 6),
    )
    steps = [e["step"] for e in read_log(log) if e["event"] == "step"]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [row["train_loss"] for row in epochs_of(log)] == [1.5, 4.5]


def test_an_epoch_behind_an_unreadable_line_takes_nothing_back(tmp_path: Path) -> None:
    log = write(
        tmp_path,
        event("step", step=1, loss=2.0),
        "{torn\n",
        event("epoch", epoch=0, step=1, train_loss=2.0),
    )
    assert [e["event"] for e in read_log(log)] == ["step", "epoch"]


def test_a_run_goes_on_over_a_bad_byte_in_its_log(
    recipe: Callable[..., Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    def losses(folder: Path) -> list[float]:
        return [e["loss"] for e in read_log(folder / "log.jsonl") if e["event"] == "step"]

    whole = run.pretrain(recipe("name=whole"))
    folder = run.pretrain(recipe("name=parts", "trainer.max_steps=7"))
    log = folder / "log.jsonl"
    data = bytearray(log.read_bytes())
    data[30] = 0xFF  # in the first step's line
    log.write_bytes(data)
    capsys.readouterr()
    assert losses(run.pretrain(recipe("name=parts"))) == losses(whole)[1:]
    assert f"{log}: line 1 cannot be read" in capsys.readouterr().err
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + 4
    assert log.read_bytes().startswith(data)
