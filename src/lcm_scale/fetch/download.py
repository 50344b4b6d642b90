"""Planned files into a folder: whole or not at all; the same command goes on where it was cut off.

Files come into a hidden folder beside the one that is asked for, each written aside and renamed
once its size, and its MD5 where the source gives one, are right. When all are there the folder gets
its name. What a failure leaves in the hidden folder is not fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from lcm_scale.errors import InputError
from lcm_scale.fetch.buckets import Remote
from lcm_scale.fetch.https import Broken, Opener, pieces, tried
from lcm_scale.fetch.open_sets import Planned
from lcm_scale.files import replacing, said_by
from lcm_scale.progress import stage

AT_ONCE = 4  # transfers side by side: small files take longer to ask for than to send
SPARE = 10**8  # bytes that are left free on the disk
KB = 1000


def missing(folder: Path, files: Sequence[Planned]) -> list[Planned]:
    """Those that neither the folder nor what an interrupted fetch left of it holds.

    Raises: InputError where the folder holds anything else, or the disk has no room for them.
    """
    _refuse_other_files(folder, files)
    place = folder if _holds_files(folder) else _aside(folder)
    lacking = [file for file in files if not _is_whole(place / file.path, file.remote.size)]
    needed = sum(file.remote.size for file in lacking)
    there = next(parent for parent in (place, *place.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if lacking and needed + SPARE > free:
        raise InputError(
            f"{folder}: {needed / 1e9:.1f} GB are to come, and the disk has {free / 1e9:.1f} GB "
            "free; --people takes fewer, -o another disk"
        )
    return lacking


def fetch_into(folder: Path, files: Sequence[Planned], opener: Opener) -> None:
    """Make a folder of the files; nothing is done where it holds them all.

    Raises: InputError as `missing`, where a file cannot be had or is another one than the source
        says, or where the folder cannot be written.
    """
    held = _holds_files(folder)
    if not missing(folder, files) and held:
        return
    aside = _aside(folder)
    try:
        if held:  # of fewer people: it is filled up
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        elif folder.is_dir():
            folder.rmdir()
        aside.mkdir(parents=True, exist_ok=True)
        _drop_others(aside, files)
        _fetch_all(folder.name, aside, missing(folder, files), opener)
        aside.rename(folder)
    except InputError as error:
        raise InputError(f"{error}; the same command goes on with what is in {aside}") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({said_by(error)})") from error


def _fetch_all(name: str, aside: Path, files: Sequence[Planned], opener: Opener) -> None:
    # By bytes, since a scan is a thousand times as large as the table beside it.
    size, there = sum(file.remote.size for file in files), 0
    with stage(f"fetch {name}, kB", size // KB) as advance, ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = {
            pool.submit(_fetch, file.remote, aside / file.path, opener): file.remote.size
            for file in files
        }
        try:
            for number, done in enumerate(as_completed(waiting), 1):
                done.result()
                before, there = there, there + waiting[done]
                advance(there // KB - before // KB, note=f"{number} of {len(files)} files")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(remote: Remote, target: Path, opener: Opener) -> None:
    tried(remote.url, lambda: _transfer(remote, target, opener))


def _transfer(remote: Remote, target: Path, opener: Opener) -> None:
    """One try.  Raises: Broken where what came is not what the list says."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with opener(remote.url) as answer, replacing(target) as aside, open(aside, "wb") as handle:
        while piece := pieces(answer, remote.size + 1 - size):
            handle.write(piece)
            digest.update(piece)
            size += len(piece)
            if size > remote.size:
                break
        if size != remote.size:
            more = "more" if size > remote.size else f"{size:,}"
            raise Broken(f"{more} bytes came, the source lists {remote.size:,}")
        if remote.md5 and digest.hexdigest() != remote.md5:
            raise Broken("what came has another MD5 than the source lists")


def _aside(folder: Path) -> Path:
    whole = folder.absolute()
    return whole.with_name(f".{whole.name}.partial")


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _is_whole(path: Path, size: int) -> bool:
    """Files get their names when they are checked, so that the size tells them."""
    return path.is_file() and path.stat().st_size == size


def _refuse_other_files(folder: Path, files: Sequence[Planned]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise InputError(f"{folder}: exists and is no folder of ours; name another with -o")
    planned = {file.path for file in files}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in planned:
            raise InputError(
                f"{folder}: holds other files ({path.relative_to(folder)}), or those of more "
                "people; they are left alone, name a new folder with -o"
            )


def _drop_others(aside: Path, files: Sequence[Planned]) -> None:
    """What an interrupted fetch of more people left, or a transfer that was killed."""
    planned = {file.path for file in files}
    for path in sorted(aside.rglob("*")):
        if not path.is_dir() and path.relative_to(aside).as_posix() not in planned:
            path.unlink()
