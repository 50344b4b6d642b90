"""All ranks choose the attention's formulation by one rule."""

from __future__ import annotations

import lightning as L

from lcm_scale.model import dispatch
from lcm_scale.model.dispatch import Factors


class OneRule(L.Callback):
    """Always added: all ranks go by what the first one found, since each may run on a machine of
    its own."""

    def __init__(self, factors: Factors) -> None:
        self.factors = factors

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        dispatch.use(trainer.strategy.broadcast(self.factors))
