"""Makes pseudo-labels at the start of each phase that asks for them, and anew within it."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import lightning as L
import numpy as np

from lcm_scale.data.module import ConnectomeData
from lcm_scale.ranks import is_first
from lcm_scale.terminal import print
from lcm_scale.training.module import LCMModule
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.pseudo_labels import AuditRow, make_pseudo_labels, sentence, write_audit
from lcm_scale.training.teacher import Teacher
from lcm_scale.training.together import Together


class PseudoLabels(L.Callback):
    """Added after `PhaseSwitch` and before `Save`.

    Attributes:
        audit: what was given so far.
        teacher: the average of the weights since the phase's start, None where the recipe has none.
    """

    def __init__(self, prepared: PreparedRun, data: ConnectomeData, together: Together) -> None:
        self.prepared, self.data, self.together = prepared, data, together
        self.config = prepared.recipe.pseudo
        self.audit: list[AuditRow] = []
        decay = self.config.teacher_decay
        self.teacher = Teacher(decay) if decay else None

    def state_dict(self) -> dict[str, Any]:
        weights = {"teacher": self.teacher.weights} if self.teacher else {}
        return {"audit": [asdict(row) for row in self.audit], **weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.audit = [AuditRow(**row) for row in state_dict["audit"]]
        if self.teacher:
            # Not the file's own pages: it may be deleted while the run goes on.
            weights = state_dict["teacher"].items()
            self.teacher.weights = {name: value.clone() for name, value in weights}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: LCMModule = pl_module  # type: ignore[assignment]
        if not module.phase.pseudo_labels or self.data.consumed > 0:
            return  # resumed in the middle of an epoch: the labels came with the checkpoint
        since = trainer.current_epoch - module.phase.first_epoch
        if since and (self.config.refresh_epochs is None or since % self.config.refresh_epochs):
            return
        if self.teacher and not since:
            self.teacher.begin(module.model)
        with self.teacher.speaks_for(module.model) if self.teacher else nullcontext():
            rows = self._make(module, trainer.current_epoch)
        self.audit += rows
        if is_first():
            for row in rows:
                if said := sentence(row, self.config):
                    print(f"{self.prepared.label}, epoch {row.epoch + 1}: {said}")
            with self.together.alone():
                write_audit(self.audit, self.prepared.folder / "pseudo_labels.csv")

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        module: LCMModule = pl_module  # type: ignore[assignment]
        stepped = (batch_idx + 1) % self.data.accumulate == 0
        if self.teacher and module.phase.pseudo_labels and stepped:
            self.teacher.follow(module.model)

    def _make(self, module: LCMModule, epoch: int) -> list[AuditRow]:
        phases, start = self.prepared.opened.phases, self.prepared.opened.start
        learnt = set(start.active) if start else set()
        for phase in phases[: phases.index(module.phase)]:
            learnt |= {module.vocabulary.names[number] for number in phase.active}
        scans = self.data.selection(epoch)
        unseen = self._unseen(start.subjects if start else frozenset())
        return make_pseudo_labels(
            module, self.data, scans, unseen, sorted(learnt), self.config, epoch
        )

    def _unseen(self, pretrained_on: Collection[str]) -> np.ndarray:
        """Validation scans of people whom the model that the run starts from did not see."""
        sets, scans = self.data.sets, self.data.validation
        seen = [sets.subjects[person] in pretrained_on for person in sets.subject[scans]]
        return scans[~np.array(seen, dtype=bool)]
