"""What the decoder looks at, and what its answers hang on.

Attention: the weights of a token's cross-attention to the rows of the matrix, a mean over heads,
layers and scans; they sum to 1 over the regions. Integrated gradients (Sundararajan et al. 2017;
captum) give a scan's output, less that at the mean training matrix, to the edges. Averaged with
their signs they cancel, since scans stand on both sides of the mean; so an edge's share is the
covariance of its gradient with the output over that output's variance. Shares sum to 1, because a
scan's gradients sum to its output.
Neither is held against exchanged labels, for which decoders would be trained anew.
Shapes: n scans, R regions, E edges, L layers, M tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lcm_scale.errors import not_installed
from lcm_scale.evaluation.questions import Question
from lcm_scale.explain.models import Explained
from lcm_scale.inference.predictor import Reading, fill, pick_device
from lcm_scale.model.attention import Attention
from lcm_scale.model.lcm import LCM, model_input
from lcm_scale.objectives import evaluation_read
from lcm_scale.weights.checkpoints import fitted

STEPS = 50  # of a path's integral, captum's own default
BATCH = 8  # scans at once, each with its path
MOST_NUMBERS = 2**25  # of matrices that are in memory for a path


@dataclass(frozen=True)
class Looked:
    """One token of one model.

    Attributes:
        gate: share of the decoder in the answer; 1 without people memory.
        attention: (R,).   shares: (E,), None where no gradients were asked for.
        missing: what a scan's gradients fail to sum up to of its output, a mean over scans, in
            shares of the outputs' spread; NaN without.
    """

    gate: float
    attention: np.ndarray
    shares: np.ndarray | None
    missing: float


class Decoder:
    """A model's decoder, ready to be looked into.

    Args: scans: numbers of those that it is asked about.
    """

    def __init__(self, one: Explained, scans: np.ndarray) -> None:
        self.model, source = one.model, one.prepared.opened.source
        self.device = pick_device(one.prepared.recipe.trainer.accelerator)
        with torch.device("meta"):
            self.network = LCM(one.model.model)
        fill(
            self.network, fitted(one.model.model, one.model.state, str(one.model.path)), self.device
        )
        self.network.requires_grad_(False)
        self.reading = Reading.of(one.model)
        self.edges = self._tensor(source.gather(scans))
        self.mean = self._tensor(source.gather(one.scans)).mean(0)
        self._maps = self._attention()

    def looked(self, question: Question, token: int, gradients: bool) -> Looked:
        """Args: token: position in the question's categories; 0 of a scalar."""
        name = question.target.name
        first = self._first(name)
        code = question.codes[token] if question.codes else 0
        shares, missing = None, float("nan")
        if gradients:
            shares, missing = self._shares(question, token)
        return Looked(self.gate(name), self._maps[first + code], shares, missing)

    def gate(self, target: str) -> float:
        """Of a target in the model's answers."""
        if "people.gate" not in self.model.state:
            return 1.0
        number = self.model.vocabulary.names.index(target)
        if not self.model.state["people.knows"][number]:
            return 1.0
        return float(self.model.state["people.gate"][number])

    def _tensor(self, edges: np.ndarray) -> Tensor:
        return torch.from_numpy(edges.astype(np.float32)).to(self.device)

    def _first(self, target: str) -> int:
        """Of a target's tokens among the active ones."""
        counts = [term.target.n_tokens for term in self.reading.terms]
        names = [term.target.name for term in self.reading.terms]
        return sum(counts[: names.index(target)])

    @torch.no_grad()
    def _attention(self) -> np.ndarray:
        """(M, R) of the active tokens."""
        total: list[Tensor] = []

        def keep(part: Any, given: tuple[Tensor, ...]) -> None:
            total.append(part.maps(*given).mean(1).sum(0))

        layers = [part for part in self.network.modules() if type(part) is Attention]
        hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
        for start in range(0, len(self.edges), BATCH):
            self._logits(self.edges[start : start + BATCH])
        for hook in hooks:
            hook.remove()
        return (torch.stack(total).sum(0) / len(self.edges) / len(layers)).cpu().numpy()

    def _logits(self, edges_BE: Tensor) -> Tensor:
        seen = model_input(edges_BE, self.reading.edges, self.reading.n_regions)
        return self.network(seen, self.reading.active)

    def _shares(self, question: Question, token: int) -> tuple[np.ndarray, float]:
        """(E,) and how far the sums are off, as `Looked` says."""
        place = [term.target.name for term in self.reading.terms].index(question.target.name)
        codes = list(question.codes)

        def output(edges_BE: Tensor) -> Tensor:
            answer = evaluation_read(
                self._logits(edges_BE), self.reading.terms, self.reading.readout
            )[place]
            if not codes:
                return answer[:, 0]
            # Of classes only differences mean something: against the mean of the others.
            own = answer[:, codes[token]]
            others = [code for code in codes if code != codes[token]]
            return own - answer[:, others].mean(1)

        gradients = integrated_gradients()(output)
        base, n_regions = self.mean[None], self.reading.n_regions
        found, outputs, off = [], [], []
        for start in range(0, len(self.edges), BATCH):
            some = self.edges[start : start + BATCH]
            each, delta = gradients.attribute(
                some,
                baselines=base,
                n_steps=STEPS,
                internal_batch_size=max(BATCH, min(BATCH * STEPS, MOST_NUMBERS // n_regions**2)),
                return_convergence_delta=True,
            )
            found.append(each.detach().cpu().numpy())
            outputs.append(output(some).detach().cpu().numpy())
            off.append(delta.abs().detach().cpu().numpy())
        each, out = np.concatenate(found), np.concatenate(outputs)
        centred = out - out.mean()
        variance = max(float((centred**2).mean()), 1e-30)
        shares = (each * centred[:, None]).mean(0) / variance
        return shares, float(np.concatenate(off).mean() / np.sqrt(variance))


def integrated_gradients() -> Any:
    """captum's class.  Raises: InputError where it is not installed."""
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise not_installed("explain", "captum", "explain") from error
    return IntegratedGradients


def drawn(scans: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Some scans, ascending, by the seed; all where there are no more than `most`."""
    if len(scans) <= most:
        return scans
    return np.sort(np.random.default_rng(seed).choice(scans, most, replace=False))


def mean_of(looked: Sequence[Looked]) -> Looked:
    """Over models."""
    shares = [each.shares for each in looked if each.shares is not None]
    return Looked(
        float(np.mean([each.gate for each in looked])),
        np.mean([each.attention for each in looked], axis=0),
        np.mean(shares, axis=0) if shares else None,
        float(np.mean([each.missing for each in looked])),
    )
