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
from lcm_scale.training.run_log import Metrics, epochs_of, read_log


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
