"""A run's log as a file: `log.jsonl`, an event a line, and `metrics.csv`, a row an epoch.

A step's line names the positions of the epoch's order that it consumed, so that "each scan exactly
once" can be read off the log of a run that was killed and resumed: a `resumed` line withdraws the
steps after the one it names.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def epochs_of(events: Sequence[Event]) -> list[EpochRow]:
    """The epoch rows of a log."""
    return [{k: v for k, v in e.items() if k != "event"} for e in events if e["event"] == "epoch"]


def write_metrics(folder: Path) -> None:
    """`metrics.csv`, made anew from the log."""
    rows = epochs_of(read_log(folder / "log.jsonl"))
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=names)
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / "metrics.csv", text.getvalue().encode())
