"""What a `shard` has read so far, on disk, so that one that was killed goes on.

Every few seconds the scans that were read since are written into one file more of a folder beside
the set, whole or not at all. A scan is found again by its mark (`marks.py`). A set that goes on
comes out byte for byte as without the kill. No raw id and no file name stands in these files.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.data.reading import Piece, ScanRead
from lcm_scale.data.recordings import Skipped
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic

SECONDS = 10.0  # of reading that a kill costs at most
LARGEST = 2**26  # bytes of matrices that wait in memory
PARTS = "read-*.npz"


class Journal:
    """What this `shard`, and one before it, have read.

    Args: folder: of its files, which is there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[str, ScanRead] = {}
        self._bytes, self._written = 0, time.monotonic()
        self._known: dict[str, tuple[Path, dict[str, Any]]] = {}
        self._open: tuple[Path, np.ndarray] | None = None  # the part that was read last
        for part in self.parts():
            for entry in _entries(part):
                self._known[entry["mark"]] = part, entry
        self._next = 1 + max([int(part.stem[-6:]) for part in self.parts()], default=-1)

    def parts(self) -> list[Path]:
        """Its files."""
        return sorted(self._folder.glob(PARTS))

    def __contains__(self, mark: str) -> bool:
        return mark in self._known

    def forget_others(self, marks: set[str]) -> int:
        """Let go of scans with other marks than these.  Returns: how many there were."""
        others = [mark for mark in self._known if mark not in marks]
        for mark in others:
            del self._known[mark]
        needed = {part for part, _ in self._known.values()}
        for part in self.parts():
            if part not in needed:
                part.unlink()
        return len(others)

    def get(self, mark: str, source: str) -> ScanRead:
        """A scan that it contains.

        Args: source: the scan's file.
        Raises: InputError where what was written cannot be read.
        """
        part, entry = self._known[mark]
        try:
            if self._open is None or self._open[0] != part:
                with np.load(part, allow_pickle=False) as content:
                    self._open = part, content["triangles"]
            return _decoded(entry, self._open[1], source)
        except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{part}: what an earlier run had read is damaged ({type(error).__name__}); remove "
                "this file, and the same command goes on"
            ) from error

    def add(self, mark: str, scan: ScanRead, source: str) -> None:
        """Keep a scan: on disk after `SECONDS` at the latest, if reading takes so long.

        Args: source: the scan's file, which is not written.
        Raises: InputError where the folder cannot be written.
        """
        for piece in scan.pieces:
            if isinstance(piece, Piece):
                self._bytes += piece.triangle.nbytes
            elif not piece.what.startswith(source):
                return  # it would name something here; the scan is read again
        pieces = tuple(_renamed(piece, source, "") for piece in scan.pieces)
        self._waiting[mark] = replace(scan, pieces=pieces)
        if self._bytes >= LARGEST or time.monotonic() - self._written >= SECONDS:
            self._write()

    def _write(self) -> None:
        entries: list[dict[str, Any]] = []
        triangles: list[np.ndarray] = []
        for mark, scan in self._waiting.items():
            own = [piece.triangle for piece in scan.pieces if isinstance(piece, Piece)]
            entries.append(_encoded(mark, scan, len(triangles)))
            triangles += own
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(entries).encode(), np.uint8)
        stacked = np.stack(triangles) if triangles else np.empty((0, 0))
        np.savez(buffer, entries=text, triangles=stacked)
        write_atomic(self._folder / PARTS.replace("*", f"{self._next:06d}"), buffer.getvalue())
        self._waiting.clear()
        self._bytes, self._written, self._next = 0, time.monotonic(), self._next + 1


def _entries(part: Path) -> list[dict[str, Any]]:
    """Of a part's scans; none where it is damaged, so that they are read again."""
    try:
        with np.load(part, allow_pickle=False) as content:
            return [
                {**entry, "mark": str(entry["mark"])}
                for entry in json.loads(content["entries"].tobytes())
            ]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return []


def _renamed(piece: Piece | Skipped, old: str, new: str) -> Piece | Skipped:
    """A window that was left out is called after the scan's file."""
    if isinstance(piece, Piece):
        return piece
    return replace(piece, what=new + piece.what.removeprefix(old))


def _encoded(mark: str, scan: ScanRead, row: int) -> dict[str, Any]:
    """A scan as JSON.  Args: row: of its first matrix in the part."""
    entry = asdict(replace(scan, pieces=()))
    pieces = [asdict(piece) for piece in scan.pieces]
    for piece in pieces:
        if "triangle" in piece:
            piece["triangle"], row = row, row + 1
    return entry | {"mark": mark, "digest": scan.digest.hex(), "pieces": pieces}


def _decoded(entry: dict[str, Any], triangles: np.ndarray, source: str) -> ScanRead:
    pieces: list[Piece | Skipped] = []
    for each in entry["pieces"]:
        if "triangle" in each:
            lists = {key: tuple(each[key]) for key in ("constant", "not_finite")}
            pieces.append(Piece(**{**each, **lists, "triangle": triangles[each["triangle"]]}))
        else:
            pieces.append(_renamed(Skipped(**each), "", source))
    known = {key: value for key, value in entry.items() if key != "mark"}
    known |= {"digest": bytes.fromhex(entry["digest"]), "remarks": tuple(entry["remarks"])}
    return ScanRead(**{**known, "pieces": tuple(pieces)})
