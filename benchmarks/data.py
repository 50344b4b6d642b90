"""Reading speed: our shuffled resident and streamed paths against webdataset, litdata and h5py in
order, one process.

    python benchmarks/data.py [--scans 20000] [--memory-scans 1000000] [--out FOLDER]

Random upper triangles of 116 regions in fp16 (reading does not care what they hold), written in
each format into a temporary folder. All yield batches of 128 triangles in memory; expansion to
matrices is the device's work. Ours shuffle, h5py reads in order, the others as they are read. One
thread each; the resident path also with all of torch's. A tar's SHA-256 is checked in the first of
seven passes, as in a run; a figure is the median pass, and passes take turns. Freed memory stays
with the process, as in a run, for all sides. `streamed memory`: the growth of this process while so
many simulated scans are streamed through, which must not depend on their number.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import torch
import webdataset

from lcm_scale.data.manifest import Shard
from lcm_scale.data.order import BatchPlan
from lcm_scale.data.stream import BatchStream, Labels, ResidentEdges, StreamedEdges
from lcm_scale.hardware.allocator import keep_freed_memory

EDGES, BATCH, BLOCK = 116 * 115 // 2, 128, 128


def triangles(scans: int) -> Iterator[np.ndarray]:
    """Blocks of (128, E) fp16."""
    generator = np.random.default_rng(0)
    base = generator.standard_normal((BLOCK, EDGES)).astype(np.float16)
    for start in range(0, scans, BLOCK):
        yield base[: min(BLOCK, scans - start)]


def write_ours(folder: Path, scans: int) -> Any:
    """Records as `lcm-scale shard` lays them out, with no more of a shard set around them than the
    stream asks for."""
    blocks, spans, path = [], [], folder / "ours.tar"
    with tarfile.open(path, "w") as tar:
        for number, block in enumerate(triangles(scans)):
            start = tar.offset
            for name, array in (
                ("fc.npy", block),
                ("bei.npy", np.zeros((len(block), 1), np.float32)),
            ):
                add(tar, f"{number:08d}.{name}", npy(array))
            add(tar, f"{number:08d}.meta.json", json.dumps([{}] * len(block)).encode())
            spans.append((start, tar.offset - start, len(block)))
    with open(path, "rb") as handle:
        shard = Shard(
            path.name,
            path.stat().st_size,
            hashlib.file_digest(handle, "sha256").hexdigest(),
            scans,
            (),
        )
    first = 0
    for number, (start, size, count) in enumerate(spans):
        record = SimpleNamespace(offset=start, bytes=size, scans=count, key=f"{number:08d}")
        blocks.append(
            SimpleNamespace(path=path, shard=shard, record=record, first_scan=first, set_number=0)
        )
        first += count
    return SimpleNamespace(
        n_scans=scans,
        atlas=SimpleNamespace(n_edges=EDGES),
        blocks=blocks,
        edge_orders=[None],
        manifests=[SimpleNamespace(dtype="float16")],
        block=np.repeat(np.arange(len(spans)), [count for _, _, count in spans]),
    )


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def ours(sets: Any, source: Any, window: int | None) -> Iterator[Any]:
    labels = Labels(np.zeros((sets.n_scans, 1), np.float32), np.ones((sets.n_scans, 1), np.float32))
    plan = BatchPlan(sets.n_scans, BATCH)
    yield from BatchStream(sets, source, labels, np.arange(sets.n_scans), [0], plan, 0, 0, window)


def by_webdataset(path: Path) -> Iterator[Any]:
    batch = []
    for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False):
        batch.append(np.load(io.BytesIO(sample["fc.npy"])))
        if len(batch) == BATCH:
            yield torch.from_numpy(np.stack(batch))
            batch = []
    if batch:
        yield torch.from_numpy(np.stack(batch))


def by_h5py(path: Path, scans: int) -> Iterator[Any]:
    with h5py.File(path) as file:
        for start in range(0, scans, BATCH):
            yield torch.from_numpy(file["fc"][start : start + BATCH])


def rates(
    sides: dict[str, Callable[[], Iterator[Any]]], scans: int, repeats: int = 7
) -> dict[str, float]:
    """Scans a second of each side, the median of some passes that take turns."""
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, batches in sides.items():
            start = time.perf_counter()
            for _batch in batches():
                pass
            found[side].append(scans / (time.perf_counter() - start))
    return {side: statistics.median(values) for side, values in found.items()}


def threaded(threads: int, batches: Callable[[], Iterator[Any]]) -> Callable[[], Iterator[Any]]:
    """The same batches, made with so many of torch's threads; one for whoever comes next."""

    def run() -> Iterator[Any]:
        torch.set_num_threads(threads)
        yield from batches()
        torch.set_num_threads(1)

    return run


def streamed_growth(scans: int) -> float:
    """MB that this process grew by while streaming."""
    with tempfile.TemporaryDirectory() as name:
        sets = write_ours(Path(name), scans)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in ours(sets, StreamedEdges(sets), 8):
            pass
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def compare(scans: int, threads: int) -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = write_ours(folder, scans)
        resident = ResidentEdges(sets)
        with tarfile.open(folder / "samples.tar", "w") as tar:
            number = 0
            for block in triangles(scans):
                for row in block:
                    add(tar, f"{number:08d}.fc.npy", npy(row))
                    number += 1
        with h5py.File(folder / "fc.h5", "w") as file:
            file["fc"] = np.concatenate(list(triangles(scans)))

        def shuffled() -> Iterator[Any]:
            return ours(sets, resident, None)

        sides = {
            "ours, resident, shuffled, one thread": threaded(1, shuffled),
            f"ours, resident, shuffled, {threads} threads": threaded(threads, shuffled),
            "ours, streamed, shuffled in windows of 8 blocks": lambda: ours(
                sets, StreamedEdges(sets), 8
            ),
            "webdataset, a sample a record": lambda: by_webdataset(folder / "samples.tar"),
            "h5py, in order": lambda: by_h5py(folder / "fc.h5", scans),
        }
        by_litdata = litdata_side(folder, scans)
        if by_litdata is None:
            return {**rates(sides, scans), "litdata": "not installed here: not measured"}
        return dict(rates({**sides, "litdata": by_litdata}, scans))


def litdata_side(folder: Path, scans: int) -> Callable[[], Iterator[Any]] | None:
    try:
        import litdata
    except ImportError:
        return None
    litdata.optimize(
        fn=_same,
        inputs=[row for block in triangles(scans) for row in block],
        output_dir=str(folder / "lit"),
        chunk_bytes="64MB",
        num_workers=1,
    )
    data = litdata.StreamingDataset(str(folder / "lit"), shuffle=True)
    return lambda: iter(litdata.StreamingDataLoader(data, batch_size=BATCH, num_workers=0))


def _same(row: np.ndarray) -> np.ndarray:
    return row


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--scans", type=int, default=20_000)
    options.add_argument(
        "--memory-scans",
        type=int,
        nargs="+",
        default=[10_000, 100_000],
        help="streamed through one by one",
    )
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = options.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    growth = {str(scans): streamed_growth(scans) for scans in sorted(arguments.memory_scans)}
    keep_freed_memory()  # for all sides, as in a run
    compared = compare(arguments.scans, threads)
    result = {
        "scans": arguments.scans,
        "batch": BATCH,
        "scans_per_s": compared,
        "streamed memory, MB more": growth,
        "load": os.getloadavg()[0],
        "command": "python benchmarks/data.py " + " ".join(sys.argv[1:]),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "data.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
