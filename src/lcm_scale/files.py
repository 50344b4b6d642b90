"""Atomic writes: a file is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lcm_scale.errors import InputError


def write_atomic(path: Path, data: bytes) -> None:
    """Write aside, fsync, rename.  Raises: InputError where the folder cannot be written or the disk is full."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(aside, path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # where a parent is a file, unlink fails as well
            aside.unlink()
        raise InputError(f"{path}: cannot be written ({error.strerror}); check space and permissions") from error


def sync_folder(folder: Path) -> None:
    """Make a rename in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
