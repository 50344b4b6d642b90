"""Stopping well: a handler that only sets a flag, and a watchdog for ranks that hang.

The flag is agreed between the ranks at each step's end (step.py), so that all of them save the
same step. Lightning's
own handlers are kept out: they run collectives inside the handler, and a rank that is in another
one hangs there.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from lcm_scale.terminal import print

if TYPE_CHECKING:
    import lightning as L

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
GRACE = 5.0  # seconds between a rank's dump and its end, in which the others notice as well


class StopFlag:
    """Raised by SIGTERM, SIGUSR1 or Ctrl-C while the `with` block runs; a second Ctrl-C interrupts
    at once."""

    def __init__(self) -> None:
        self.raised = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopFlag:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._raise) for number in SIGNALS}
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.raised:
            raise KeyboardInterrupt
        self.raised = True


def keep_lightning_out(trainer: L.Trainer) -> None:
    """Leave the handlers of a `StopFlag` in force during `trainer.fit`."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


class Watchdog(threading.Thread):
    """Ends a run that hangs: dumps every thread's stack to stacks/rank-N.txt and leaves, on each
    rank by itself.

    How long is too long is learnt: `factor` times the longest time between two beats so far, but at
    least `floor` seconds; until the second beat the start-up allowance holds.
    """

    START_UP = 1800.0

    def __init__(self, folder: Path, rank: int, floor: float, factor: float) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.folder, self.rank, self.floor, self.factor = folder, rank, floor, factor
        self.longest: float | None = None
        self.last = time.monotonic()
        self._over = threading.Event()

    def __enter__(self) -> Watchdog:
        self.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()

    def beat(self) -> None:
        """The run goes on: called after each step, validation and checkpoint."""
        now = time.monotonic()
        # The time up to the first beat is start-up: imports, compilation, the first touch of the
        # data.
        self.longest = 0.0 if self.longest is None else max(self.longest, now - self.last)
        self.last = now

    @property
    def limit(self) -> float:
        return (
            self.START_UP if self.longest is None else max(self.floor, self.factor * self.longest)
        )

    def run(self) -> None:
        pause, looked = min(1.0, self.floor / 4), time.monotonic()
        while not self._over.wait(pause):
            now = time.monotonic()
            if now - looked > 10 * pause:
                self.last += (
                    now - looked
                )  # this thread did not run either: the process was stopped, or the host asleep
            looked = now
            if now - self.last > self.limit:
                self._end()

    def _end(self) -> None:
        file = self.folder / "stacks" / f"rank-{self.rank}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "w", encoding="utf-8") as handle:
            faulthandler.dump_traceback(handle)
        print(
            f"error: rank {self.rank} has not moved for {time.monotonic() - self.last:.0f} s "
            f"(limit {self.limit:.0f}); where it "
            f"stands is in {file}; the same command goes on from the newest checkpoint",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(GRACE)
        os._exit(1)
