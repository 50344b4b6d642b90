"""Shards to batches, in the order of `order.py`.

step (1) `resident` or `streamed` source: scan numbers -> upper triangles, in the run's region order
step (2) `Labels`: what each scan counts in the loss, over the whole global batch, so that no rank
must ask another step (3) `BatchStream`: an epoch's batches for one rank, from any step on; plain
arrays become tensors here

Resident (the default) reads every tar once and gathers by index; above a byte limit, records are
read one shuffle window at a time. Both give the same order for the same window.
Expansion to R x R is the device's work. State is (epoch, step): nothing else is needed to go on.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Set
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lcm_scale import progress
from lcm_scale.data.order import BatchPlan, epoch_order
from lcm_scale.data.sets import RecordPlace, ShardSets
from lcm_scale.data.verify import check_file, check_size, decode_edges
from lcm_scale.errors import InputError

Batch = dict[str, Tensor]
BLANK = {"labels": np.nan, "scan": -1}  # of a padded row; 0 elsewhere
FEW = 1 << 20  # bytes below which NumPy has gathered a batch before torch begins
_CHECKED: set[tuple[str, int, int, str]] = set()  # tars as they were when this process checked them


def read_block(sets: ShardSets, number: int) -> np.ndarray:
    """The triangles (scans, E) of one record, in the run's region order.  Raises: InputError naming
    a damaged tar."""
    block: RecordPlace = sets.blocks[number]
    _check_once(block)
    try:
        with open(block.path, "rb") as tar:
            tar.seek(block.record.offset)
            data = tar.read(block.record.bytes)
    except OSError as error:
        raise InputError(
            f"{block.path}: cannot be read ({error.strerror}); run `lcm-scale verify`"
        ) from error
    try:
        edges = decode_edges(data, sets.manifests[block.set_number], block.record.scans)
    except InputError as error:
        raise InputError(f"{block.path}, record {block.record.key}: {error}") from error
    order = sets.edge_orders[block.set_number]
    return edges if order is None else edges[:, order]


def _check_once(block: RecordPlace) -> None:
    """A tar's SHA-256 when it is first read: a flipped bit in a matrix is a number like any
    other."""
    try:
        stat = block.path.stat()
    except OSError as error:
        raise InputError(
            f"{block.path}: cannot be read ({error.strerror}); run `lcm-scale verify`"
        ) from error
    mark = (str(block.path), stat.st_mtime_ns, stat.st_size, block.shard.sha256)
    if mark not in _CHECKED:
        check_file(block.path, block.shard)
        _CHECKED.add(mark)


def edge_dtype(sets: ShardSets) -> np.dtype:
    """The precision of batches: that of the finest set, however the scans are read."""
    return np.result_type(*(np.dtype(m.dtype) for m in sets.manifests))


class ResidentEdges:
    """All scans of the sets in memory, gathered by number."""

    def __init__(self, sets: ShardSets) -> None:
        for path, shard in {block.path: block.shard for block in sets.blocks}.items():
            check_size(path, shard)  # so that memory is taken for scans that are there
        self.edges = np.empty((sets.n_scans, sets.atlas.n_edges), dtype=edge_dtype(sets))
        with progress.stage("read the sets", sets.n_scans, aside=True) as advance:
            for number, block in enumerate(sets.blocks):
                scans = block.record.scans
                self.edges[block.first_scan : block.first_scan + scans] = read_block(sets, number)
                advance(scans)

    def gather(self, scans: np.ndarray) -> np.ndarray:
        """(n,) scan numbers -> (n, E)."""
        if len(scans) * self.edges[0].nbytes < FEW:
            return self.edges.take(scans, 0)
        rows = torch.from_numpy(self.edges)  # torch gathers with all its threads
        return rows.index_select(0, torch.from_numpy(scans)).numpy()

    def holding(self, edges: np.ndarray) -> ResidentEdges:
        """The same scans with other numbers (N, E)."""
        other = copy.copy(self)
        other.edges = edges
        return other


class StreamedEdges:
    """Scans read block by block as they are asked for; blocks that the last request did not touch
    are let go.

    Asked in the order of `epoch_order`, it holds one shuffle window (two where a batch spans the
    border).
    """

    def __init__(self, sets: ShardSets) -> None:
        self.sets = sets
        self.held: dict[int, np.ndarray] = {}

    def gather(self, scans: np.ndarray, keep: Set[int] = frozenset()) -> np.ndarray:
        """(n,) scan numbers -> (n, E). `keep`: blocks that stay in memory (those of the window)."""
        blocks = self.sets.block[scans]
        touched = np.unique(blocks).tolist()
        for number in self.held.keys() - keep - set(touched):
            del self.held[number]
        out = np.empty((len(scans), self.sets.atlas.n_edges), dtype=edge_dtype(self.sets))
        for number in touched:
            if number not in self.held:
                self.held[number] = read_block(self.sets, number)
            here = blocks == number
            out[here] = self.held[number][scans[here] - self.sets.blocks[number].first_scan]
        return out


Edges = ResidentEdges | StreamedEdges


def open_edges(sets: ShardSets, resident_gb: float) -> Edges:
    """Resident below the limit, streamed above it."""
    size = sum(m.scans * m.atlas.n_edges * np.dtype(m.dtype).itemsize for m in sets.manifests)
    return ResidentEdges(sets) if size <= resident_gb * 1e9 else StreamedEdges(sets)


@dataclass
class Labels:
    """What the loss sees of every scan of the sets; pseudo-labels are filled in here.

    Attributes:
        values: float32 (N, C), NaN missing.
        confidence: float32 (N, C): 1 for a recorded label, less for a pseudo-label, 0 for a missing
            one.
    """

    values: np.ndarray
    confidence: np.ndarray

    @classmethod
    def recorded(cls, values: np.ndarray) -> Labels:
        return cls(values.copy(), np.isfinite(values).astype(np.float32))

    def total(self, scans: np.ndarray) -> np.ndarray:
        """(C,): how many labels these scans have, a pseudo-label counting as its confidence."""
        # `take`, here and below: a fifth of the time of an index in brackets
        return self.confidence.take(scans, 0).sum(0)

    def weights(self, scans: np.ndarray, total: np.ndarray | None = None) -> np.ndarray:
        """(n, C): each scan's share of its target's mean over all scans that `total` counts (a
        global batch, in training; None: these scans); 0 where nobody is labelled."""
        known = self.confidence.take(scans, 0)
        if total is None:
            total = known.sum(0)
        return known / (total + (total == 0))


class BatchStream:
    """The batches of one epoch that one rank sees, an iterable for Lightning.

    Each batch holds `edges` (b, E), `labels` and `weights` (b, C), `valid` (b,) and `scan` (b,), -1
    where padded; b is the same for every batch. `weights` are scaled so that the mean over ranks
    and micro-batches is the global batch's loss.

    Args:
        selection: scan numbers that the epoch visits, in manifest order.
        columns: the labels' columns of the phase's active targets.
        first_step: where a resumed epoch goes on.
    """

    def __init__(
        self,
        sets: ShardSets,
        source: Edges,
        labels: Labels,
        selection: np.ndarray,
        columns: list[int],
        plan: BatchPlan,
        seed: int,
        epoch: int,
        window: int | None,
        rank: int = 0,
        first_step: int = 0,
    ) -> None:
        self.source, self.labels, self.plan, self.block = source, labels, plan, sets.block
        self.columns, self.rank, self.first_step = columns, rank, first_step
        self.all_active = columns == list(range(labels.values.shape[1]))
        order, self.group = epoch_order(sets.block[selection], seed, epoch, window)
        self.scans = selection[order]
        self._window: tuple[tuple[int, int], frozenset[int]] | None = None

    def __len__(self) -> int:
        """Micro-batches of the whole epoch, also when it is resumed in its middle."""
        return self.plan.steps * self.plan.accumulate

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.first_step, self.plan.steps):
            for micro in range(self.plan.accumulate):
                yield self.batch(step, micro)

    def batch(self, step: int, micro: int = 0) -> Batch:
        whole = self.plan.step(step)
        scans, parts = self.scans[whole], self.plan.world * self.plan.accumulate
        total = None
        if parts > 1:
            total = self.labels.total(scans)
            scans = self.scans[self.plan.piece(step, micro, self.rank)]
        weights = self._active(self.labels.weights(scans, total))
        if parts > 1:
            weights = weights * parts
        if isinstance(self.source, StreamedEdges):
            edges = self.source.gather(scans, keep=self._window_blocks(whole))
        else:
            edges = self.source.gather(scans)
        labels = self._active(self.labels.values.take(scans, 0))
        return padded(edges, labels, weights, scans, self.plan.local_batch)

    def _active(self, table: np.ndarray) -> np.ndarray:
        """(n, C) -> (n, active targets)."""
        return table if self.all_active else table.take(self.columns, 1)

    def _window_blocks(self, positions: slice) -> frozenset[int]:
        """The blocks of the windows that a step touches, looked up once a window: most steps lie in
        the one of the step before."""
        edges = (int(self.group[positions.start]), int(self.group[positions.stop - 1]))
        if self._window is None or self._window[0] != edges:
            start = np.searchsorted(self.group, edges[0], side="left")
            stop = np.searchsorted(self.group, edges[1], side="right")
            blocks = np.unique(self.block[self.scans[start:stop]])
            self._window = (edges, frozenset(blocks.tolist()))
        return self._window[1]


def padded(
    edges: np.ndarray, labels: np.ndarray, weights: np.ndarray, scans: np.ndarray, size: int
) -> Batch:
    """A batch of `size` rows; rows past the real ones are 0, without label or weight, and marked
    not valid."""
    n = len(scans)
    arrays = {
        "edges": edges,
        "labels": labels.astype(np.float32, copy=False),
        "weights": weights.astype(np.float32, copy=False),
        "valid": np.ones(n, dtype=np.float32),
        "scan": scans.astype(np.int64),
    }
    if n < size:
        arrays = {name: _longer(array, size, BLANK.get(name, 0)) for name, array in arrays.items()}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _longer(array: np.ndarray, size: int, blank: float) -> np.ndarray:
    out = np.full((size, *array.shape[1:]), blank, dtype=array.dtype)
    out[: len(array)] = array
    return out
