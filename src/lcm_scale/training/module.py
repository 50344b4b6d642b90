"""The LightningModule: the model, its loss under the phase in force, and what a checkpoint must
know.

One module serves pretraining and finetuning: they differ in phases, starting weights and data, not
in arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L
import torch
from torch import Tensor

from lcm_scale.atlas import Atlas
from lcm_scale.config import Recipe, dump
from lcm_scale.data.order import mix
from lcm_scale.data.stream import Batch
from lcm_scale.model.lcm import LCM, model_input
from lcm_scale.model.presets import LCMConfig
from lcm_scale.objectives import TargetLoss, evaluation_read, losses, read
from lcm_scale.training.optimizer import TwoStage, parameter_groups
from lcm_scale.training.schedule import Phase
from lcm_scale.vocabulary import Vocabulary
from lcm_scale.weights.meaning import Meaning


class LCMModule(L.LightningModule):
    """An LCM in training.

    Args:
        model_config: the model; its token counts are the vocabulary's.
        vocabulary: all targets of the run, those of later phases included, from the first step on.
        terms: one a target, in vocabulary order: weight, and centre and scale of a scalar.
        phases: the run's schedule.   total_steps, decay_step: for the learning-rate schedule.
    """

    def __init__(
        self,
        recipe: Recipe,
        model_config: LCMConfig,
        vocabulary: Vocabulary,
        atlas: Atlas,
        terms: Sequence[TargetLoss],
        phases: Sequence[Phase],
        total_steps: int,
        decay_step: int,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.vocabulary = vocabulary
        self.atlas = atlas
        self.terms = tuple(terms)
        self.phases = tuple(phases)
        self.phase = self.phases[0]
        self.total_steps = total_steps
        self.decay_step = decay_step
        self.model = LCM(model_config)

    def matrices(self, batch: Batch) -> Tensor:
        """(B, R, R) as the model sees them."""
        return model_input(batch["edges"], self.recipe.data.edges, self.atlas.n_regions)

    def active_terms(self) -> list[TargetLoss]:
        return [self.terms[number] for number in self.phase.active]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        terms = self.active_terms()
        logits = self.model(self.matrices(batch), self.phase.active, batch["valid"])
        values = read(logits, batch["labels"], terms, self.phase.readout)
        each = losses(
            values, batch["labels"], batch["weights"], terms, self.recipe.objective.label_smoothing
        )
        self.last_losses = each.detach()
        return each.sum()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Random numbers are a function of (seed, step, rank), so a resumed run draws the same ones:
        # no state to save.
        torch.manual_seed(
            int(mix(self.recipe.seed, 4, self.global_step, batch_idx, self.global_rank)) >> 1
        )

    @torch.no_grad()
    def scores(self, batch: Batch) -> list[Tensor]:
        """Per active target (B, classes) logits or (B, 1) values, read without labels; in eval
        mode."""
        logits = self.model(self.matrices(batch), self.phase.active, batch["valid"])
        return evaluation_read(logits, self.active_terms(), self.phase.readout)

    @torch.no_grad()
    def validation_losses(self, batch: Batch) -> Tensor:
        """(active targets,): the batch's loss terms, read as at evaluation; in eval mode."""
        return losses(self.scores(batch), batch["labels"], batch["weights"], self.active_terms())

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

    def describe(self) -> Meaning:
        """What a checkpoint must say about its weights; a run adds whom and what they saw."""
        return Meaning(
            run=self.recipe.name,
            recipe=dump(self.recipe),
            model=self.model.config,
            vocabulary=self.vocabulary,
            atlas=self.atlas,
            edges=self.recipe.data.edges,
            scalars={
                t.target.name: (t.centre, t.scale) for t in self.terms if not t.target.is_class
            },
            phase=self.phase.name,
            readout=self.phase.readout,
            active=tuple(self.vocabulary.names[number] for number in self.phase.active),
        )
