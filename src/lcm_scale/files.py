"""Atomic writes, so that a file or folder is there whole or not at all; the sum that tells whether
it stayed so; and files that others name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lcm_scale.errors import InputError


def write_atomic(path: Path, data: bytes) -> None:
    """Write aside, fsync, rename.  Raises: InputError where the folder cannot be written or the
    disk is full."""
    with replacing(path) as aside:
        aside.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path, advice: str = "check space and permissions") -> Iterator[Path]:
    """Yields a name beside `path` for the block to write to; then that file, on disk, takes the
    place of `path`.

    Raises: InputError where the file cannot be written; what stood at `path` is as it was.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        _sync(aside, os.O_RDWR)
        os.replace(aside, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be written ({said_by(error)}); {advice}") from error
    finally:
        with contextlib.suppress(OSError):  # where a parent is a file, unlink fails as well
            aside.unlink(missing_ok=True)


def check_new_folder(folder: Path) -> None:
    """Raises: InputError where something stands there that is no empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists; name a new folder")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder beside `folder` for the block to fill with files; then that, on disk, is
    `folder`, which may have stood there empty.

    Raises: InputError where it cannot be written; nothing is there then.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        aside.mkdir(parents=True)
        yield aside
        for file in aside.iterdir():
            sync_folder(file)
        if folder.exists():
            folder.rmdir()
        os.replace(aside, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({said_by(error)}); check space and permissions"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_writable(path: Path) -> None:
    """See that a file can be made or replaced; nothing is written.  Raises: InputError."""
    nearest = next(each for each in path.absolute().parents if each.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        what = "may not be written" if nearest.is_dir() else "is a file"
        raise InputError(f"{path}: cannot be written: {nearest} {what}")


def said_by(error: BaseException) -> str:
    """What the system said, in a few words: "No space left on device".

    torch's and safetensors' writers notice that bytes are missing and raise an error of their own,
    in whose course the system's stands.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return (str(error).splitlines() or [type(error).__name__])[0][:80]


def inside(folder: Path, name: str, also: Path | None = None) -> Path:
    """A file that something in a folder names, which somebody else may have made.

    Args:
        name: without a path, as `checked.file_name` sees to.   also: another folder into which a
            link may lead.
    Raises: InputError where it is a link that leads out of the folder.
    """
    path = folder / name
    try:
        found = path.resolve()
        allowed = [place.resolve() for place in (folder, also) if place is not None]
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle
        raise InputError(f"{path}: cannot be found ({type(error).__name__})") from error
    if not any(found.is_relative_to(place) for place in allowed):
        raise InputError(
            f"{path}: a link that leads out of its folder; put the file itself there (cp -L)"
        )
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hex digits.  Raises: OSError where it cannot be read."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make a rename in it survive a power cut."""
    _sync(folder, os.O_RDONLY)


def _sync(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
