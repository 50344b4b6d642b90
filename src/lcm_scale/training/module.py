"""The LightningModule: the model, its loss under the phase in force, and what a checkpoint must
know.

One module serves pretraining and finetuning: they differ in phases, starting weights and data, not
in arithmetic.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lcm_scale.config import dump
from lcm_scale.data.manifest import ShardManifest
from lcm_scale.data.order import mix_plain
from lcm_scale.data.stream import Batch
from lcm_scale.inference.predictor import Reading, scores
from lcm_scale.model.lcm import LCM, model_input
from lcm_scale.objectives import TargetLoss, losses, read
from lcm_scale.training.cohort import cohort_of
from lcm_scale.training.optimizer import TwoStage, parameter_groups
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.weights.cohort import Cohort
from lcm_scale.weights.meaning import Meaning


class LCMModule(L.LightningModule):
    """An LCM in training.

    Its vocabulary holds all targets of the run, those of later phases included, from the first step
    on.
    Attributes:
        phase: the one in force.
        terms: one a target, in vocabulary order.
        last_losses: (active targets,) of the last batch.
    """

    last_losses: Tensor

    def __init__(self, prepared: PreparedRun) -> None:
        super().__init__()
        self.prepared = prepared
        self.recipe = prepared.recipe
        self._recipe_text = dump(prepared.recipe)  # a tenth of a second, and each checkpoint has it
        self.vocabulary = prepared.opened.sets.vocabulary
        self.atlas = prepared.opened.sets.atlas
        self.terms = prepared.terms
        self.phases = prepared.opened.phases
        self.phase = self.phases[0]
        self.model = LCM(prepared.opened.model)

    def inputs(self, batch: Batch) -> Tensor:
        """(B, R, R) as the model sees them."""
        return model_input(batch["edges"], self.recipe.data.edges, self.atlas.n_regions)

    def active_terms(self) -> list[TargetLoss]:
        return [self.terms[number] for number in self.phase.active]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        terms = self.active_terms()
        logits = self.model(self.inputs(batch), self.phase.active, batch["valid"])
        values = read(logits, batch["labels"], terms, self.phase.readout)
        each = losses(
            values, batch["labels"], batch["weights"], terms, self.recipe.objective.label_smoothing
        )
        self.last_losses = each.detach()
        return each.sum()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # torch.manual_seed goes on to every kind of device that torch knows, each of which notes
        # where it was called from: 6 % of a small step.
        seed = self.seed_of(batch_idx)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def seed_of(self, batch_idx: int) -> int:
        """Of a batch's random numbers: a function of (seed, step, rank), so that a resumed run
        draws the same ones, and there is no state to save."""
        return mix_plain(self.recipe.seed, 4, self.global_step, batch_idx, self.global_rank) >> 1

    def scores(self, batch: Batch) -> list[Tensor]:
        """Per active target (B, classes) logits or (B, 1) values, read without labels."""
        reading = Reading(
            self.phase.active,
            tuple(self.active_terms()),
            self.phase.readout,
            self.recipe.data.edges,
            self.atlas.n_regions,
        )
        return list(scores(self.model, reading, batch["edges"], batch["valid"]).values())

    @torch.no_grad()
    def validation_losses(self, batch: Batch) -> Tensor:
        """(active targets,): the batch's loss terms, read as at evaluation."""
        terms = self.active_terms()
        values = [
            score if term.target.is_class else term.learnt(score)
            for term, score in zip(terms, self.scores(batch), strict=True)
        ]
        return losses(values, batch["labels"], batch["weights"], terms)

    def configure_optimizers(self) -> TwoStage:
        recipe = self.recipe
        groups = parameter_groups(
            self.model,
            self.vocabulary.names,
            recipe.objective.edge_branch_decay,
            recipe.optim.edge_branch_lr,
        )
        kept = torch.bfloat16 if recipe.optim.state == "bf16" else torch.float32
        return TwoStage(groups, stage=self.phases[0].stage, state_dtype=kept)

    def meaning(self) -> Meaning:
        """What the weights mean at this moment, whom they saw and where they come from."""
        opened, start = self.prepared.opened, self.prepared.opened.start
        return Meaning(
            run=self.recipe.name,
            recipe=self._recipe_text,
            model=self.model.config,
            vocabulary=self.vocabulary,
            atlas=self.atlas,
            edges=self.recipe.data.edges,
            scalars={
                term.target.name: (float(term.centre), float(term.scale))
                for term in self.terms
                if not term.target.is_class
            },
            phase=self.phase.name,
            readout=self.phase.readout,
            active=tuple(self.vocabulary.names[number] for number in self.phase.active),
            subjects=frozenset(self.prepared.subjects),
            unknown_subjects=start is not None and start.unknown_subjects,
            data=(
                *(start.data if start else ()),
                *(facts(manifest) for manifest in opened.sets.manifests),
            ),
            salt_id=opened.sets.manifests[0].salt_id,
            fingerprints=opened.sets.fingerprints,
            harmonised=opened.harmonised,
            cohort=self.cohort,
        )

    @cached_property
    def cohort(self) -> Cohort | None:
        """Of the people that train it or choose its epoch."""
        return cohort_of(self.prepared)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Beside Lightning's state."""
        checkpoint["lcm"] = self.meaning().to_json()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Release 0.1.0 kept the state of `Log` and `Save` in one callback."""
        states = checkpoint.get("callbacks", {})
        if "Recorder" in states:
            state = states.pop("Recorder")
            states["Log"], states["Save"] = {"losses": state["losses"]}, {"best": state["best"]}


def facts(manifest: ShardManifest) -> dict[str, Any]:
    """What a model card says about a set."""
    return {
        "name": manifest.name,
        "scans": manifest.scans,
        "people": len(manifest.subjects),
        "simulated": manifest.simulated,
        "connectivity": dict(manifest.connectivity),
        "notes": list(manifest.notes),
    }
