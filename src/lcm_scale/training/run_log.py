"""A run's log as a file: `log.jsonl`, an event a line, and `metrics.csv`, a row an epoch.

A step's line names the positions of the epoch's order that it consumed, so that "each scan exactly
once" can be read off the log of a run that was killed and resumed: a `resumed` line withdraws the
steps after the one it names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lcm_scale.csv_text import csv_text
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic

Event = dict[str, Any]
EpochRow = dict[str, Any]


def read_log(path: Path) -> list[Event]:
    """The events that count: steps that a later resume took back are left out; a torn last line
    too."""
    events: list[Event] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if event["event"] == "resumed":
            events = [e for e in events if e.get("step", 0) <= event["step"]]
        events.append(event)
    return events


def append_line(path: Path, text: str) -> None:
    """Append a line; a torn one before it, as a full disk leaves, is ended first, so that it spoils
    no other.

    Raises: InputError where the file cannot be written.
    """
    try:
        with open(path, "ab+") as handle:
            if (
                handle.seek(0, os.SEEK_END)
                and (handle.seek(-1, os.SEEK_END), handle.read(1))[1] != b"\n"
            ):
                text = "\n" + text
            handle.write(text.encode() + b"\n")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); check space; the same command goes on "
            "from the newest checkpoint"
        ) from error


def epochs_of(path: Path) -> list[EpochRow]:
    """The epoch rows that count. Only their lines are parsed: of steps there may be millions."""
    rows: list[EpochRow] = []
    with open(path, "rb") as log:
        for line in log:
            if not line.startswith((b'{"event": "epoch"', b'{"event": "resumed"')):
                continue
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.pop("event") == "epoch":
                rows.append(event)
            else:
                rows = [row for row in rows if row["step"] <= event["step"]]
    return rows


class Metrics:
    """`metrics.csv`: the log's epoch rows as a table.

    A row is appended as its epoch ends. The whole file is made from the log where that cannot be:
    for a new column, which comes with a new phase, and where a resume took rows back.
    """

    def __init__(self, folder: Path) -> None:
        self.log, self.file = folder / "log.jsonl", folder / "metrics.csv"
        self.names: list[str] = []

    def append(self, row: EpochRow) -> None:
        """An epoch's row, which the log has already.  Raises: InputError where it cannot be
        written."""
        if not self.names or not row.keys() <= set(self.names):
            self.rewrite()
        else:
            append_line(self.file, csv_text([row], self.names, head=False).rstrip("\n"))

    def rewrite(self) -> None:
        """The file as the log has it.  Raises: InputError where it cannot be written."""
        rows = epochs_of(self.log)
        self.names = list(dict.fromkeys(name for row in rows for name in row))
        write_atomic(self.file, csv_text(rows, self.names).encode())
