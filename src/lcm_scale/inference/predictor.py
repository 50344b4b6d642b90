"""Answers of a trained model: probabilities over a set's own categories, or values, read without
labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lcm_scale.atlas import Atlas
from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.data.stream import Edges
from lcm_scale.model.lcm import LCM, model_input
from lcm_scale.objectives import TargetLoss, evaluation_read
from lcm_scale.vocabulary import Vocabulary
from lcm_scale.weights.checkpoints import Checkpoint


@dataclass(frozen=True)
class Meaning:
    """What fixes the meaning of a model's logits; attributes as in `Checkpoint`."""

    vocabulary: Vocabulary
    active: tuple[str, ...]
    atlas: Atlas
    edges: str
    readout: str
    scalars: Mapping[str, tuple[float, float]]


def read_scores(network: LCM, about: Meaning | Checkpoint, edges_BE: Tensor) -> dict[str, Tensor]:
    """Active targets' scores, read without labels, from raw triangles (B, E): (B, classes) logits
    or (B, 1) values."""
    numbers = [i for i, name in enumerate(about.vocabulary.names) if name in about.active]
    terms = [
        TargetLoss(t, 1.0, *about.scalars.get(t.name, (0.0, 1.0)))
        for t in map(about.vocabulary.targets.__getitem__, numbers)
    ]
    logits = network(model_input(edges_BE, about.edges, about.atlas.n_regions), numbers)
    return dict(
        zip(
            (term.target.name for term in terms),
            evaluation_read(logits, terms, about.readout),
            strict=True,
        )
    )


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
        """Per question (target name, codes of the allowed answers; none for a scalar): (n, answers)
        or (n,)."""
        network = LCM(model.model)
        network.load_state_dict(dict(model.state))
        network.eval()
        parts: list[list[np.ndarray]] = [[] for _ in questions]
        for start in range(0, len(scans), self.batch):
            edges = torch.from_numpy(self.source.gather(scans[start : start + self.batch]))
            scores = read_scores(network, model, edges)
            for part, (name, codes) in zip(parts, questions, strict=True):
                answer = scores[name]
                part.append((answer[:, list(codes)].softmax(1) if codes else answer[:, 0]).numpy())
        return [np.concatenate(part) for part in parts]
