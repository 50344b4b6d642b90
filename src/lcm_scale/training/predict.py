"""Answers of a trained model: probabilities over a set's own categories, or values, read without labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.data.stream import Edges
from lcm_scale.model.lcm import LCM
from lcm_scale.objectives import TargetLoss, evaluation_read
from lcm_scale.training.checkpoints import Checkpoint
from lcm_scale.training.module import matrices


class Predictor:
    """Scores scans of open sets with any checkpoint that fits them.

    Args: recipe: for the batch size; how edges are fed is the checkpoint's own.
    """

    def __init__(self, sets: ShardSets, source: Edges, recipe: Recipe) -> None:
        self.sets, self.source = sets, source
        self.batch = recipe.trainer.global_batch

    def edges(self, scans: np.ndarray) -> np.ndarray:
        """(n, E) raw correlations, float32."""
        return self.source.gather(scans).astype(np.float32)

    @torch.no_grad()
    def answers(
        self, model: Checkpoint, scans: np.ndarray, questions: Sequence[tuple[str, tuple[int, ...]]]
    ) -> list[np.ndarray]:
        """Per question (target name, codes of the allowed answers; none for a scalar): (n, answers) or (n,)."""
        network = LCM(model.model)
        network.load_state_dict(dict(model.state))
        network.eval()
        numbers = [i for i, name in enumerate(model.vocabulary.names) if name in model.active]
        targets = [model.vocabulary.targets[i] for i in numbers]
        terms = [TargetLoss(t, 1.0, *model.scalars.get(t.name, (0.0, 1.0))) for t in targets]
        places = [[t.name for t in targets].index(name) for name, _ in questions]
        parts: list[list[np.ndarray]] = [[] for _ in questions]
        for start in range(0, len(scans), self.batch):
            edges = torch.from_numpy(self.source.gather(scans[start : start + self.batch]))
            logits = network(matrices(edges, model.edges, model.atlas.n_regions), numbers)
            scores = evaluation_read(logits, terms, model.readout)
            for part, place, (_, codes) in zip(parts, places, questions, strict=True):
                answer = scores[place]
                part.append((answer[:, list(codes)].softmax(1) if codes else answer[:, 0]).numpy())
        return [np.concatenate(part) for part in parts]
