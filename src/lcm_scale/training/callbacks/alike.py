"""Sees that all ranks chose one way before they go it: ranks under two strategies would wait for
each other for ever."""

from __future__ import annotations

import lightning as L
import torch

from lcm_scale.cost.choice import Choice
from lcm_scale.cost.placement import settings
from lcm_scale.errors import Elsewhere, InputError
from lcm_scale.ranks import is_first


class Alike(L.Callback):
    """Always added, first. Under Slurm and torchrun ranks know each other's cards before they
    choose; where processes were started on several machines by hand, they do not."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """The process group is there, the model is not spread yet.

        Raises: InputError on the first rank, Elsewhere on the others.
        """
        if trainer.world_size == 1:
            return
        told: list[str] = [""] * trainer.world_size
        way = " ".join(settings(self.choice.way)) or "everything on each"
        torch.distributed.all_gather_object(told, way)
        if len(set(told)) == 1:
            return
        if not is_first():
            raise Elsewhere
        raise InputError(
            "trainer.strategy=auto: the ranks' machines differ, and so do the "
            f"ways that they chose ({'; '.join(sorted(set(told)))}); set one of them"
        )
