"""The LightningDataModule: which scans each epoch of each phase visits, where in the epoch a run
stands, pseudo-labels.

Its state is (epoch, consumed scans, pseudo-labels) and the fingerprints of the shards; a changed
data set is refused. What is counted is what the optimiser consumed, never what a loader yielded
ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch

from lcm_scale.data.order import BatchPlan
from lcm_scale.data.sets import ShardSets, scans_to_train
from lcm_scale.data.state import check_state
from lcm_scale.data.stream import Batch, BatchStream, Edges, Labels, padded


class ConnectomeData(L.LightningDataModule):
    """Batches of a run.

    Args:
        train, validation: scan numbers, ascending; validation may be empty.
        phase_at: epoch -> (set names or () for all, columns of the active targets).
        global_batch: scans an optimiser step, over all ranks.
    """

    def __init__(
        self,
        sets: ShardSets,
        source: Edges,
        train: np.ndarray,
        validation: np.ndarray,
        phase_at: Callable[[int], tuple[Sequence[str], list[int]]],
        global_batch: int,
        seed: int,
        window: int | None = None,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.sets, self.source = sets, source
        self.train, self.validation = train, validation
        self.phase_at, self.seed, self.window = phase_at, seed, window
        self.global_batch, self.accumulate = global_batch, accumulate
        self.labels = Labels.recorded(sets.labels)
        self.pseudo: dict[str, torch.Tensor] = {}
        self.epoch = 0
        self.consumed = 0
        self._selections: dict[tuple[str, ...], np.ndarray] = {}
        self._plan: tuple[tuple[int, int], BatchPlan] | None = None  # the last one that was asked

    def selection(self, epoch: int) -> np.ndarray:
        """The training scans of an epoch's phase.  Raises: InputError where it has none."""
        names = tuple(self.phase_at(epoch)[0])
        if names not in self._selections:  # asked at every step: the sets are gone through once
            self._selections[names] = scans_to_train(self.sets, self.train, names, epoch)
        return self._selections[names]

    def plan(self, epoch: int) -> BatchPlan:
        world = self.trainer.world_size if self.trainer else 1
        if self._plan is None or self._plan[0] != (epoch, world):
            scans = len(self.selection(epoch))
            plan = BatchPlan(scans, self.global_batch, world, self.accumulate)
            self._plan = ((epoch, world), plan)
        return self._plan[1]

    def train_dataloader(self) -> BatchStream:
        assert self.trainer is not None
        epoch = self.trainer.current_epoch
        if epoch != self.epoch:
            self.epoch, self.consumed = epoch, 0
        plan = self.plan(epoch)
        return BatchStream(
            self.sets,
            self.source,
            self.labels,
            self.selection(epoch),
            self.phase_at(epoch)[1],
            plan,
            self.seed,
            epoch,
            self.window,
            self.trainer.global_rank,
            first_step=-(-self.consumed // self.global_batch),
        )

    def step_consumed(self) -> slice:
        """Called when the optimiser has taken a step: advances the count; the positions that the
        step consumed."""
        positions = self.plan(self.epoch).step(self.consumed // self.global_batch)
        self.consumed = positions.stop
        return positions

    def batches(
        self, scans: np.ndarray, columns: list[int], rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """Unshuffled batches for evaluation, with recorded labels only; weights are those of the
        mean over all scans.

        Each is a global batch's share of one rank, padded to one size, so that all ranks make the
        same calls.
        """
        recorded = Labels.recorded(self.sets.labels[scans][:, columns])
        total = recorded.total(np.arange(len(scans)))
        for start in range(0, len(scans), self.global_batch):
            whole = np.arange(start, min(start + self.global_batch, len(scans)))
            size = -(-len(whole) // world)
            part = whole[rank * size : (rank + 1) * size]
            yield padded(
                self.source.gather(scans[part]),
                recorded.values[part],
                recorded.weights(part, total),
                scans[part],
                size,
            )

    def set_pseudo_labels(
        self, scans: np.ndarray, values: np.ndarray, confidence: np.ndarray
    ) -> None:
        """Fill in labels (n, C) where `confidence` is above 0; kept in checkpoints, so that a
        resumed phase has the same."""
        self.pseudo = {
            "scans": torch.from_numpy(scans.astype(np.int64)),
            "values": torch.from_numpy(values.astype(np.float32)),
            "confidence": torch.from_numpy(confidence.astype(np.float32)),
        }
        recorded = Labels.recorded(self.sets.labels)
        # In place: the epoch's stream is made before the phase's start fills them in.
        self.labels.values[:], self.labels.confidence[:] = recorded.values, recorded.confidence
        rows, columns = np.nonzero(confidence > 0)
        self.labels.values[scans[rows], columns] = values[rows, columns]
        self.labels.confidence[scans[rows], columns] = confidence[rows, columns]

    def state_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "consumed": self.consumed,
            "scans": len(self.train),
            "window": self.window,
            "fingerprints": self.sets.fingerprints,
            "pseudo": self.pseudo,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_state(state_dict, self.seed, len(self.train), self.window, self.sets.fingerprints)
        self.epoch, self.consumed = state_dict["epoch"], state_dict["consumed"]
        if state_dict["pseudo"]:
            pseudo = {k: v.numpy() for k, v in state_dict["pseudo"].items()}
            self.set_pseudo_labels(pseudo["scans"], pseudo["values"], pseudo["confidence"])
