"""The one forward for prediction: what a network answers, read without labels, on its own device.

`scores` is the forward itself, for any loop: one process or many ranks, weights whole or in pieces.
`answers` makes probabilities and values of it. `Predictor` asks a checkpoint about the scans of
open shard sets. Neither Lightning nor webdataset is known here.

Legend: B scans, R regions, E edges R(R-1)/2, J columns of context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lcm_scale import progress
from lcm_scale.data.given import given_to
from lcm_scale.errors import InputError
from lcm_scale.hardware.machine import accelerator_here
from lcm_scale.model.lcm import LCM, model_input
from lcm_scale.objectives import TargetLoss, evaluation_read
from lcm_scale.vocabulary import Target
from lcm_scale.weights.calibration import Calibration
from lcm_scale.weights.checkpoints import Checkpoint, fitted
from lcm_scale.weights.meaning import Meaning

if TYPE_CHECKING:
    from lcm_scale.config import Recipe
    from lcm_scale.data.sets import ShardSets
    from lcm_scale.data.stream import Edges


# A target's name, and the categories that are allowed answers; none of a scalar.
Question = tuple[str, tuple[str, ...]]
BATCH = 128  # scans at once, of any number
WHOLE, PEOPLE, DECODER = "whole", "people memory", "decoder"


@dataclass(frozen=True)
class Reading:
    """How a network is asked and how its outputs are read.

    Attributes:
        active: numbers of the targets that it answers, ascending.   terms: one an active target;
            centre and scale of a scalar are used, weights are not.
        readout: one of config.run.READOUTS.   edges: what it sees, one of config.run.EDGES.
        n_regions: R.
        calibration: target -> the map that its probabilities go through.
    """

    active: tuple[int, ...]
    terms: tuple[TargetLoss, ...]
    readout: str
    edges: str
    n_regions: int
    calibration: Mapping[str, Calibration] = field(default_factory=dict)

    @classmethod
    def of(cls, meaning: Meaning) -> Reading:
        """As a checkpoint or an exported file says."""
        numbers = tuple(
            number for number, name in enumerate(meaning.vocabulary.names) if name in meaning.active
        )
        targets = [meaning.vocabulary.targets[number] for number in numbers]
        terms = tuple(
            TargetLoss(target, 1.0, *meaning.scalars.get(target.name, (0.0, 1.0)))
            for target in targets
        )
        return cls(
            numbers,
            terms,
            meaning.readout,
            meaning.edges,
            meaning.atlas.n_regions,
            meaning.calibration,
        )


@torch.no_grad()
def scores(
    network: LCM,
    reading: Reading,
    edges_BE: Tensor,
    valid_B: Tensor | None = None,
    context_BJ: Tensor | None = None,
) -> dict[str, Tensor]:
    """Each active target's scores, read without labels, from raw correlations.

    The network answers in evaluation mode and is left in the mode it was in. Precision is the
    caller's: fp32 without an autocast context around the call. Where ranks hold pieces of the
    weights, all of them make the same calls.

    Args:
        edges_BE: upper triangles (B, E), on the network's device.
        valid_B: (B,) 1 for real scans, 0 for padding.
        context_BJ: what is known of the scans, as `Meaning.context` says; None: nothing.
    Returns: target name -> fp32 (B, classes) logits, or (B, 1) values in the target's own unit, in
        vocabulary order.
    """
    return scores_of_parts(network, reading, edges_BE, valid_B, context_BJ)[WHOLE]


def scores_of_many(
    network: LCM, reading: Reading, edges: np.ndarray, told: np.ndarray
) -> dict[str, np.ndarray]:
    """As `scores`, of any number of scans, some at a time on the network's device.

    Args: edges: (n, E).   told: (n, J) of `Meaning.context`, NaN not known.
    """
    device = network.readout.weight.device
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(edges), BATCH):
        some = slice(start, start + BATCH)
        given = torch.from_numpy(edges[some]).to(device)
        context = torch.from_numpy(told[some]).float().to(device)
        for name, score in scores(network, reading, given, None, context).items():
            parts.setdefault(name, []).append(score.float().cpu().numpy())
    return {name: np.concatenate(found) for name, found in parts.items()}


@torch.no_grad()
def scores_of_parts(
    network: LCM,
    reading: Reading,
    edges_BE: Tensor,
    valid_B: Tensor | None = None,
    context_BJ: Tensor | None = None,
) -> dict[str, dict[str, Tensor]]:
    """As `scores`, by part: `WHOLE`, and of a network with people memory also what `PEOPLE` and
    `DECODER` answer alone."""
    was_training = network.training
    network.eval()
    try:
        logits = network(
            model_input(edges_BE, reading.edges, reading.n_regions), reading.active, valid_B
        )
    finally:
        network.train(was_training)
    decoder = evaluation_read(logits, reading.terms, reading.readout)
    return {
        part: dict(zip((term.target.name for term in reading.terms), found, strict=True))
        for part, found in _parts(network, reading, edges_BE, context_BJ, decoder).items()
    }


def _parts(
    network: LCM,
    reading: Reading,
    edges_BE: Tensor,
    context_BJ: Tensor | None,
    decoder: list[Tensor],
) -> dict[str, list[Tensor]]:
    """Answers by part, one a target."""
    if network.people is None:
        return {WHOLE: decoder}
    # Decompositions are not for bf16.
    with torch.autocast(edges_BE.device.type, enabled=False):
        memory = network.people(edges_BE, context_BJ)
    scalar = [not term.target.is_class for term in reading.terms]
    whole = network.people.combine(memory, decoder, reading.active, scalar)
    alone = network.people.alone(memory, decoder, reading.active)
    return {WHOLE: whole, PEOPLE: alone, DECODER: decoder}


def answers(
    network: LCM, reading: Reading, edges_BE: Tensor, context_BJ: Tensor | None = None
) -> dict[str, Tensor]:
    """Each active target's answer to raw correlations (B, E), which are on the network's device as
    is the context: of a target with categories their probabilities (B, categories), calibrated
    where a map is stored, of a scalar its value (B,) in its own unit."""
    targets = {term.target.name: term.target for term in reading.terms}
    return {
        name: _calibrated(targets[name], score.softmax(1), reading.calibration.get(name))
        if targets[name].is_class
        else score[:, 0]
        for name, score in scores(network, reading, edges_BE, None, context_BJ).items()
    }


def probabilities(
    target: Target, score: np.ndarray, asked: Sequence[str], change: Calibration | None
) -> np.ndarray:
    """Of some of a target's categories, which add up to 1.

    Args: score: (n, C) logits of all its categories.   asked: some of its labels.   change: the map
        of all its labels, None where there is none.
    """
    known = asked if change is None else target.labels
    places = [target.categories.index(category) for category in known]
    found = torch.from_numpy(score[:, places]).softmax(1).numpy()
    if change is None:
        return found
    chosen = change(found)[:, [target.labels.index(category) for category in asked]]
    return np.asarray(chosen / chosen.sum(axis=1, keepdims=True))


def _calibrated(target: Target, probabilities: Tensor, change: Calibration | None) -> Tensor:
    """(B, C) of all categories: how likely it is that none answers stays as it is."""
    if change is None:
        return probabilities
    places = [target.categories.index(label) for label in target.labels]
    some = probabilities[:, places]
    whole = some.sum(1, keepdim=True)
    moved = torch.from_numpy(change((some / whole).cpu().numpy())).to(probabilities)
    return probabilities.index_copy(1, torch.tensor(places, device=some.device), moved * whole)


def pick_device(accelerator: str = "auto") -> torch.device:
    """A GPU where there is one, unless `accelerator` says cpu.

    Raises: InputError where it asks for a GPU and there is none.
    """
    return torch.device("cuda" if accelerator_here(accelerator) == "gpu" else "cpu")


def fill(network: LCM, state: Mapping[str, Tensor], device: torch.device) -> None:
    """Give a network that was made on the meta device its weights, in fp32, on `device`; it then
    stands in evaluation mode."""
    network.to_empty(device=device)
    network.load_state_dict(dict(state))
    network.eval()


class Predictor:
    """Answers about the scans of open sets, from any checkpoint that fits them.

    Args:
        recipe: for the batch size and the device; how edges are fed is the checkpoint's own.
        autocast: the type of products, for example torch.bfloat16; None: fp32.
    Raises: InputError where the recipe asks for a GPU and there is none.
    """

    def __init__(
        self, sets: ShardSets, source: Edges, recipe: Recipe, autocast: torch.dtype | None = None
    ) -> None:
        self.sets, self.source = sets, source
        self.batch = recipe.trainer.global_batch
        self.device = pick_device(recipe.trainer.accelerator)
        self.autocast = autocast

    def edges(self, scans: np.ndarray) -> np.ndarray:
        """(n, E) raw correlations, float32."""
        return self.source.gather(scans).astype(np.float32)

    def answers(
        self, model: Checkpoint, scans: np.ndarray, questions: Sequence[Question]
    ) -> list[np.ndarray]:
        """Per question (n, answers) probabilities or (n,) values.  Raises: InputError as
        `scores`."""
        return self.answers_of_parts(model, scans, questions)[WHOLE]

    def answers_of_parts(
        self, model: Checkpoint, scans: np.ndarray, questions: Sequence[Question]
    ) -> dict[str, list[np.ndarray]]:
        """As `answers`, by part of the model as in `scores_of_parts`.

        The categories are looked up in the model's own vocabulary: the sets may have them in
        another order.  Raises: InputError as `scores`.
        """

        def answer(
            name: str, score: np.ndarray, asked: tuple[str, ...], change: Calibration | None
        ) -> np.ndarray:
            target = model.vocabulary[name]
            return probabilities(target, score, asked, change) if asked else score[:, 0]

        maps = {WHOLE: model.calibration}
        return {
            part: [
                answer(name, by_target[name], asked, maps.get(part, {}).get(name))
                for name, asked in questions
            ]
            for part, by_target in self.scores(model, scans).items()
        }

    def scores(self, model: Checkpoint, scans: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Part -> target -> fp32 (n, classes) logits, or (n, 1) values, as `scores_of_parts`.

        Raises: InputError where the weights are not those of the checkpoint's model, or it knows
            the regions in another order than the sets.
        """
        if model.atlas.indices != self.sets.atlas.indices:
            raise InputError(
                f"{model.path}: knows the regions in the order {model.atlas.checksum}, the data "
                f"are in {self.sets.atlas.checksum}; shard them in its order"
            )
        with torch.device("meta"):
            network = LCM(model.model)
        fill(network, fitted(model.model, model.state, str(model.path)), self.device)
        reading = Reading.of(model)
        told = torch.from_numpy(given_to(model.context, self.sets, scans)).float()
        collected: dict[str, dict[str, list[np.ndarray]]] = {}
        with progress.stage("answer", len(scans), aside=True) as advance:
            for start in range(0, len(scans), self.batch):
                some = scans[start : start + self.batch]
                edges = torch.from_numpy(self.source.gather(some)).to(self.device)
                context = told[start : start + self.batch].to(self.device)
                with self._products():
                    found = scores_of_parts(network, reading, edges, context_BJ=context)
                for part, by_target in found.items():
                    for name, score in by_target.items():
                        pieces = collected.setdefault(part, {}).setdefault(name, [])
                        pieces.append(score.float().cpu().numpy())
                advance(len(some))
        return {
            part: {name: np.concatenate(pieces) for name, pieces in by_target.items()}
            for part, by_target in collected.items()
        }

    def _products(self) -> AbstractContextManager[Any]:
        """In the type that they are asked for."""
        return torch.autocast(self.device.type, self.autocast) if self.autocast else nullcontext()
