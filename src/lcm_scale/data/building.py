"""A set's folder built aside, by one process at a time, and put in place of an older one at the
end.

`.NAME.partial` beside the folder holds the lock, the set as it grows, and what has been read so
far (`journal.py`). It goes when the set stands; after a kill it stays, and the next `shard` goes on
from it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lcm_scale.data.journal import Journal
from lcm_scale.data.manifest import MANIFEST
from lcm_scale.errors import InputError
from lcm_scale.lock import check_free, holding

LOCK = "lock"


@dataclass(frozen=True)
class Building:
    """Where a set is being built.

    Attributes: aside: its folder until it stands.   journal: what has been read.
    """

    aside: Path
    journal: Journal


def check_nobody_builds(folder: Path) -> None:
    """Raises: InputError where another process is building this set."""
    check_free(_work(folder) / LOCK)


@contextmanager
def building(folder: Path) -> Iterator[Building]:
    """A new folder that takes the place of `folder` where all went well, and is gone otherwise.

    Raises: InputError where another process is at it, or nothing can be written.
    """
    work = _work(folder)
    try:
        with holding(work / LOCK):
            _tidy(folder)
            aside = work / "set"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            place = Building(aside, Journal(work))
            try:
                yield place
                _put(aside, folder)
                for part in place.journal.parts():
                    part.unlink()
            finally:
                shutil.rmtree(aside, ignore_errors=True)
                for left in work.glob(f"{LOCK}.*"):  # of a process killed while it took the lock
                    left.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        # HDF5 turns a full disk into a RuntimeError where it closes a file
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0][:80]
        raise InputError(
            f"{folder}: cannot be written ({reason}); check space and permissions"
        ) from error
    finally:
        with suppress(OSError):  # what has been read stays for the next `shard`
            work.rmdir()


def _work(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _put(aside: Path, folder: Path) -> None:
    """A set in place of the older one."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        aside.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Put back the set that a kill between two renames left aside, and remove what earlier
    versions, whose names hold a process's number, left half-built."""
    for left in folder.parent.glob(f".{folder.name}.*old"):
        if not folder.exists() and (left / MANIFEST).is_file():
            left.rename(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)
    for left in folder.parent.glob(f".{folder.name}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)
