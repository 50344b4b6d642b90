"""A run's log as a file: `log.jsonl`, an event a line, and `metrics.csv`, a row an epoch.

A step's line names the positions of the epoch's order that it consumed, so that "each scan exactly
once" can be read off the log of a run that was killed and resumed: a `resumed` line withdraws the
steps after the one it names. A line that a full disk tore or a disk damaged costs that line alone:
every reader goes through `_events`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from lcm_scale.csv_text import csv_text
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic
from lcm_scale.terminal import print

Event = dict[str, Any]
EpochRow = dict[str, Any]

# Event -> what its readers need, and of which type. A damaged line may still be JSON.
NEEDED: dict[str, dict[str, type]] = {
    "step": {"step": int, "loss": float},
    "epoch": {"step": int, "epoch": int, "train_loss": float},
    "resumed": {"step": int},
    "diverged": {"step": int, "reason": str},
    "recipe": {"changed": dict},
}
_HEADS = tuple(f'{{"event": "{name}"'.encode() for name in NEEDED)
LOCK = ".lock"  # in a run's folder: of the one process that may write there
OPEN_SECONDS = 1.0  # that a log stays open for its next line
LONGEST_LINE = 1 << 16  # bytes; an epoch's, with a thousand targets


def read_log(path: Path) -> list[Event]:
    """The events that count: steps that a later resume took back are left out. Lines that cannot be
    read are named on the terminal, and stay in the file."""
    events: list[Event] = []
    for event, back in _events(path):
        if back is not None:
            events = [e for e in events if e.get("step", 0) <= back]
        events.append(event)
    return events


def has_diverged(path: Path) -> bool:
    """Whether a run's last line says that its loss became no number. The rest is not read."""
    if not path.is_file():
        return False
    with open(path, "rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - LONGEST_LINE))
        last = log.read().rstrip(b"\n").rpartition(b"\n")[2]
    return last.startswith(_head("diverged")) and event_of(last) is not None


def append_line(path: Path, text: str) -> None:
    """Append a line; a torn one before it, as a full disk leaves, is ended first, so that it spoils
    no other.

    Raises: InputError where the file cannot be written.
    """
    lines = Lines(path)
    lines.append(text)
    lines.close()


class Lines:
    """A file to which lines are appended, kept open between lines that follow each other closely:
    opening it costs a small model's step a hundredth.

    It is closed when the second is over in which it was opened, so that a network's file server
    has the lines, and says so where it has no room.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: FileIO | None = None
        self._opened = 0.0

    def append(self, text: str) -> None:
        """As `append_line`.  Raises: InputError where the file cannot be written."""
        line = text.encode() + b"\n"
        try:
            if self._handle is None:
                self._handle, self._opened = FileIO(self.path, "a+"), time.monotonic()
                end = self._handle.seek(0, os.SEEK_END)
                if end and (self._handle.seek(-1, os.SEEK_END), self._handle.read(1))[1] != b"\n":
                    line = b"\n" + line
            while line:
                line = line[self._handle.write(line) :]
        except OSError as error:
            raise self._failed(error) from error
        if time.monotonic() - self._opened > OPEN_SECONDS:
            self.close()

    def close(self) -> None:
        """Raises: InputError where the file cannot be written."""
        handle, self._handle = self._handle, None
        if handle is not None:
            try:
                handle.close()
            except OSError as error:
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> InputError:
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError):
                handle.close()
        return InputError(
            f"{self.path}: cannot be written ({error.strerror}); check space; the same command "
            "goes on from the newest checkpoint"
        )


def epochs_of(path: Path) -> list[EpochRow]:
    """The epoch rows that count. Only their lines are parsed: of steps there may be millions. Of
    those it is seen that they are whole; as `read_log` otherwise."""
    rows: list[EpochRow] = []
    for event, back in _events(path, ("epoch", "resumed")):
        if back is not None:
            rows = [row for row in rows if row["step"] <= back]
        if event.pop("event") == "epoch":
            rows.append(event)
    return rows


def highest_step(path: Path) -> int:
    """The last step that was ever taken, those included that a resume took back; 0 where there is
    none."""
    if not path.is_file():
        return 0
    return max((event.get("step", 0) for event, _ in _events(path, ("step",))), default=0)


def _events(path: Path, wanted: Sequence[str] = ()) -> Iterator[tuple[Event, int | None]]:
    """Each event of a kind in `wanted` (empty: all), and the step back to which it takes the ones
    before it, or None.

    A step or an epoch that comes again behind an unreadable line takes them back too: that line was
    a resume's.
    """
    heads = tuple(_head(name) for name in wanted)
    last, gap = {"step": 0, "epoch": 0}, False
    with open(path, "rb") as log:
        for number, line in enumerate(log, 1):
            line = line.rstrip(b"\n")
            if not line:
                continue
            if heads and not line.startswith(heads) and _is_whole(line):
                continue
            event = event_of(line)
            if event is None:
                gap = True
                _name_once(path, number)
                continue
            name, back = event["event"], None
            if name == "resumed":
                back = event["step"]
            elif gap and event.get("step", 0) <= last.get(name, -1):
                back = event["step"] - 1
            if back is not None:
                last, gap = {kind: min(step, back) for kind, step in last.items()}, False
            if name in last:
                last[name] = event["step"]
            yield event, back


def _head(name: str) -> bytes:
    """How every line of that event begins, as `append_line` is given them."""
    return f'{{"event": "{name}"'.encode()


def _is_whole(line: bytes) -> bool:
    """What can be seen without parsing: a torn line, a byte that we never write."""
    return line.startswith(_HEADS) and line.endswith(b"}") and line.isascii()


def event_of(line: bytes) -> Event | None:
    """The event of a line of a log; None where it is none of ours, or lacks what its readers
    need."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):  # also where it is no UTF-8
        return None
    name = event.get("event") if isinstance(event, dict) else None
    needed = NEEDED.get(name) if isinstance(name, str) else None
    if needed is None or not all(isinstance(event.get(key), kind) for key, kind in needed.items()):
        return None
    return event


_named: set[tuple[Path, int]] = set()  # lines that this process has told of


def _name_once(path: Path, number: int) -> None:
    if (path, number) not in _named:
        _named.add((path, number))
        print(f"{path}: line {number} cannot be read; it is passed over", file=sys.stderr)


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
