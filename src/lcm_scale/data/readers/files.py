"""Files of a folder by pattern, and what to say where none is there or none fits a table."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path, PureWindowsPath

from lcm_scale.config import SourceConfig, expand
from lcm_scale.errors import InputError, nearest
from lcm_scale.identity import normalised
from lcm_scale.limits import is_file


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files that fit a glob, sorted; its suffix in any case, since scanners write .MAT."""
    head, dot, suffix = pattern.rpartition(".")
    if dot and suffix.isalnum():
        suffix = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix)
        pattern = f"{head}.{suffix}"
    return sorted(folder.glob(pattern))


def instead_of(path: Path) -> str:
    """What was perhaps meant by a file that is not there, as the end of a message; '' where nothing
    is near."""
    slashed = path.parent / PureWindowsPath(path.name).as_posix()
    if slashed != path and is_file(slashed):
        return f", did you mean {slashed} (a backslash parts no folders here)?"
    if not path.parent.is_dir():
        return f" (no folder {path.parent})"
    names = sorted(other.name for other in path.parent.iterdir())
    return nearest(path.name, names)


def row_of_file(path: Path, subjects: Collection[str]) -> str:
    """Which of a table's subjects a file is perhaps of, with the source.subject_pattern that finds
    it; '' where nothing is near.

    Args: subjects: as `identity.normalised` spells them.
    """
    for number in re.finditer(r"\d+", path.stem):
        if normalised(number.group()) in subjects:
            before = path.stem[: number.start()]
            pattern = (re.escape(before).replace(r"\-", "-") if before else "^") + r"(\d+)"
            return _perhaps(path, normalised(number.group()), pattern)
    for subject in sorted(subjects, key=len, reverse=True):
        place = path.name.find(subject)
        if subject and place >= 0:
            before, after = path.name[:place], path.name[place + len(subject) :]
            pattern = f"^{re.escape(before)}(.+){re.escape(after)}$".replace(r"\-", "-")
            return _perhaps(path, subject, pattern)
    return ""


def _perhaps(path: Path, subject: str, pattern: str) -> str:
    found = re.search(pattern, path.name)
    if found is None or normalised(found[1]) != subject:
        return f"; {path.name} is perhaps row {subject}"
    return f"; {path.name} is perhaps row {subject}: source.subject_pattern={pattern}"


def files_of(source: SourceConfig, usual: str) -> list[Path]:
    """The files of source.dir that fit source.pattern.

    Args: usual: the pattern where the recipe names none.
    Raises: InputError where the folder or every file is missing.
    """
    folder = expand(source.dir or "")
    if not source.dir or not folder.is_dir():
        raise InputError(f"source.dir: {source.dir or 'not set'}: no such folder")
    pattern = source.pattern or usual
    files = matching(folder, pattern)
    if not files:
        raise InputError(f"{folder}: no file fits '{pattern}' (source.pattern)")
    return files
