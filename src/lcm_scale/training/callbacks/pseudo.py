"""Makes pseudo-labels at the start of each phase that asks for them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import lightning as L
import numpy as np

from lcm_scale.data.module import ConnectomeData
from lcm_scale.ranks import is_first
from lcm_scale.terminal import print
from lcm_scale.training.module import LCMModule
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.pseudo_labels import make_pseudo_labels, sentence, write_audit
from lcm_scale.training.result import AUDIT, AuditRow
from lcm_scale.training.together import Together


class PseudoLabels(L.Callback):
    """Added after `PhaseSwitch`.  Attributes: audit: what was given so far."""

    state_key = AUDIT

    def __init__(self, prepared: PreparedRun, data: ConnectomeData, together: Together) -> None:
        self.prepared, self.data, self.together = prepared, data, together
        self.audit: list[AuditRow] = []

    def state_dict(self) -> dict[str, Any]:
        return {"audit": [asdict(row) for row in self.audit]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.audit = [AuditRow(**row) for row in state_dict["audit"]]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: LCMModule = pl_module  # type: ignore[assignment]
        starts = trainer.current_epoch == module.phase.first_epoch and self.data.consumed == 0
        if not module.phase.pseudo_labels or not starts:
            return  # resumed in the middle of an epoch: the labels came with the checkpoint
        phases, start = self.prepared.opened.phases, self.prepared.opened.start
        learnt = set(start.active) if start else set()
        for phase in phases[: phases.index(module.phase)]:
            learnt |= {module.vocabulary.names[number] for number in phase.active}
        scans = self.data.selection(trainer.current_epoch)
        config = self.prepared.recipe.pseudo
        unseen = self._unseen(start.subjects if start else frozenset())
        rows = make_pseudo_labels(module, self.data, scans, unseen, sorted(learnt), config)
        self.audit += rows
        if is_first():
            for said in filter(None, (sentence(row, config) for row in rows)):
                print(f"{self.prepared.label}, phase {module.phase.name}: {said}")
            with self.together.alone():
                write_audit(self.audit, self.prepared.folder / "pseudo_labels.csv")

    def _unseen(self, pretrained_on: Collection[str]) -> np.ndarray:
        """Validation scans of people whom the model that the run starts from did not see."""
        sets, scans = self.data.sets, self.data.validation
        seen = [sets.subjects[person] in pretrained_on for person in sets.subject[scans]]
        return scans[~np.array(seen, dtype=bool)]
