"""What the package needs of webdataset's inner parts."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import webdataset as wds

Holds = Callable[[str, bool, str], None]


def written(path: Path) -> list[tuple[int, int]]:
    """Two records, and where each begins and ends by the writer's own count."""
    places = []
    with open(path, "wb") as handle:
        writer = wds.TarWriter(handle, user="", group="", mode=0o644, encoder=False, mtime=0)
        for number in range(2):
            start = getattr(writer.tarstream, "offset", -1)
            writer.write({"__key__": f"record-{number}", "a.npy": bytes(700), "b.json": b"{}"})
            places.append((start, getattr(writer.tarstream, "offset", -1)))
        writer.close()
    return places


def test_the_writers_offset_is_where_the_next_record_begins(holds: Holds, tmp_path: Path) -> None:
    places = written(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        begins = [member.offset for member in tar.getmembers() if member.name.endswith("a.npy")]
    same = [start for start, _ in places] == begins and places[0][1] == places[1][0]
    holds("tarstream", same, f"no longer counts the bytes that are written: {places}, {begins}")
