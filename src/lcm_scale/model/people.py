"""Ours, not LCM: people memory beside the decoder, as `linear.memory` fits it in closed form.

A scan's tangent vector meets one weight vector a token. Beside the decoder's answer stands the
memory's, and a gate a target says how much the decoder adds. Nothing here has a gradient: training
does not know this part, it is fitted when training is done (`training.remember`).
The radial form keeps the vectors of its people, which `export` refuses to give away unasked.
Legend: N kept scans, B scans, R regions, E edges R(R-1)/2, F = E + R tangent features, M tokens, T
targets, J columns of context, D added features of them (`linear.context`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lcm_scale.linear.collapse import KeptWeights, Weights
from lcm_scale.linear.context import SHARED
from lcm_scale.linear.memory import ABSENT
from lcm_scale.linear.memory import PeopleMemory as FittedMemory
from lcm_scale.linear.tangent import SHRINKAGE
from lcm_scale.model.presets import LCMConfig


class PeopleMemory(nn.Module):
    """The collapsed memory of all targets of a vocabulary.

    Args:
        target_tokens: tokens of each target, in vocabulary order.
        context: the number of categories of each column, 0 for a number.
        priors: P, references of the memories that this one started from.
        kept: N of the radial form, 0 of the linear one.
    """

    whitening: Tensor
    centre: Tensor
    weight: Tensor
    intercept: Tensor
    slope: Tensor
    offset: Tensor
    log: Tensor
    knows: Tensor
    gate: Tensor
    known_centre: Tensor
    known_scale: Tensor
    known_shares: Tensor
    added: Tensor
    own: Tensor
    prior_whitening: Tensor
    prior_centre: Tensor
    prior_weight: Tensor
    kept_vectors: Tensor
    kept_products: Tensor
    kept_context: Tensor
    kept_scale: Tensor
    kept_told: Tensor
    kept_weight: Tensor

    def __init__(
        self,
        n_regions: int,
        target_tokens: Sequence[int],
        context: Sequence[int] = (),
        priors: int = 0,
        kept: int = 0,
    ) -> None:
        super().__init__()
        R, M, T = n_regions, sum(target_tokens), len(target_tokens)
        features = R * (R + 1) // 2
        self.target_tokens = tuple(target_tokens)
        self.register_buffer("whitening", torch.zeros(R, R))
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("weight", torch.zeros(M, features))
        for name in ("intercept", "slope", "offset"):
            self.register_buffer(name, torch.zeros(M))
        for name in ("log", "knows"):  # of a target: 1 where it is so
            self.register_buffer(name, torch.zeros(T))
        self.register_buffer("gate", torch.zeros(T))
        self.context = tuple(context)
        if self.context:
            D = sum(max(1, categories) for categories in self.context)
            self.register_buffer("known_centre", torch.zeros(len(self.context)))
            self.register_buffer("known_scale", torch.ones(len(self.context)))
            self.register_buffer("known_shares", torch.zeros(D))
            self.register_buffer("added", torch.zeros(D, M))
            if not kept:
                self.register_buffer("own", torch.zeros(D, M, features))

        self.kept = kept
        if kept:
            J = len(self.context)
            self.register_buffer("kept_vectors", torch.zeros(kept, features))
            self.register_buffer("kept_products", torch.zeros(kept, kept))  # 0 with oneself
            self.register_buffer("kept_context", torch.full((kept, J), -1.0))  # -1: not known
            self.register_buffer("kept_scale", torch.zeros(2, T))  # by which K1 and beta K2 come
            self.register_buffer("kept_told", torch.zeros(T, J))
            self.register_buffer("kept_weight", torch.zeros(M, kept))
        self.priors = priors
        if priors:
            self.register_buffer("prior_whitening", torch.zeros(priors, R, R))
            self.register_buffer("prior_centre", torch.zeros(priors, features))
            self.register_buffer("prior_weight", torch.zeros(priors, M, features))

    @classmethod
    def of(cls, config: LCMConfig) -> PeopleMemory:
        """That of a model."""
        tokens = config.target_tokens
        return cls(config.n_regions, tokens, config.context, config.priors, config.kept_scans)

    @torch.no_grad()
    def fill(self, fitted: FittedMemory, names: Sequence[str]) -> None:
        """Take over what was fitted.  Args: names: of the targets, in vocabulary order."""

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).float()

        self.whitening.copy_(tensor(fitted.whitening))
        self.centre.copy_(tensor(fitted.centre))
        if self.context:
            self.known_centre.copy_(tensor(np.array([c.centre for c in fitted.context])))
            self.known_scale.copy_(tensor(np.array([c.scale for c in fitted.context])))
            shares = [c.shares or (0.0,) for c in fitted.context]
            self.known_shares.copy_(tensor(np.concatenate(shares)))
        if fitted.prior is not None:
            self.prior_whitening.copy_(tensor(fitted.prior.whitenings))
            self.prior_centre.copy_(tensor(fitted.prior.centres))
        if fitted.kept is not None:
            self.kept_vectors.copy_(tensor(fitted.kept.vectors))
            self.kept_products.copy_(tensor(fitted.kept.masked))
            categorical = np.array([bool(column.categories) for column in fitted.context])
            codes = np.where(categorical, fitted.kept.context.values, np.nan)
            self.kept_context.copy_(tensor(np.nan_to_num(codes, nan=-1.0)))
        starts = np.cumsum([0, *self.target_tokens])
        for number, name in enumerate(names):
            target = fitted.targets.get(name)
            if target is None:
                continue
            first, end = starts[number], starts[number + 1]
            rows = [int(first) + code for code in (target.classes or (0,))]
            weights = target.weights
            if isinstance(weights, KeptWeights):
                self.kept_weight[rows] = tensor(weights.coefficients.T)
                first_scale = 1 / weights.scale1
                second_scale = weights.beta * first_scale**2 / weights.scale2
                scales = torch.tensor([first_scale, second_scale])
                self.kept_scale[:, number] = scales / (1 + weights.beta)
                told = [column.name in weights.told for column in fitted.context]
                self.kept_told[number] = torch.tensor(told).float()
            else:
                self.weight[rows] = tensor(weights.common.T)
            self.intercept[rows] = tensor(weights.intercept)
            if target.prior is not None:
                self.intercept[rows] += tensor(target.prior.intercept)
                self.prior_weight[:, rows] = tensor(target.prior.weights.swapaxes(1, 2))
            if self.context:
                self.added[:, rows] = tensor(weights.added)
            if isinstance(weights, Weights) and weights.own is not None:
                self.own[:, rows] = tensor(weights.own.swapaxes(1, 2))
            self.slope[rows] = tensor(target.slopes) if target.n_classes else 1.0
            if target.n_classes:
                self.offset[first:end] = ABSENT
                self.offset[rows] = tensor(target.offsets)
            self.log[number], self.knows[number] = float(weights.log), 1.0
            self.gate[number] = target.gate

    @torch.no_grad()
    def reorder(self, place: Tensor) -> None:
        """Expect region i at `place[i]` (R,) from now on; its answers stay."""
        R = len(place)
        rows, columns = torch.triu_indices(R, R)
        number = torch.zeros(R, R, dtype=torch.long)
        number[rows, columns] = torch.arange(len(rows))
        first, second = place[rows], place[columns]
        feature = number[torch.minimum(first, second), torch.maximum(first, second)]
        feature, place = feature.to(self.weight.device), place.to(self.weight.device)
        told = (self.own,) if self.context and not self.kept else ()
        kept = (self.kept_vectors,) if self.kept else ()
        before = (self.prior_centre, self.prior_weight) if self.priors else ()
        for table in (self.centre, self.weight, *told, *kept, *before):
            table.copy_(torch.empty_like(table).index_copy_(-1, feature, table))
        self.whitening[place[:, None], place] = self.whitening.clone()
        if self.priors:
            self.prior_whitening[:, place[:, None], place] = self.prior_whitening.clone()

    def forward(self, edges_BE: Tensor, context_BJ: Tensor | None = None) -> Tensor:
        """Raw correlations (B, E) to (B, M): logits, and values of scalars in their own unit.

        Args: context_BJ: codes and numbers, NaN where not known; None: nothing is.
        """
        linear = torch.nn.functional.linear
        C = self.shrunk(edges_BE.float())
        vectors = self.vectors(C, self.whitening) - self.centre
        answers = linear(vectors, self.weight, self.intercept)
        for number in range(self.priors):
            before = self.vectors(C, self.prior_whitening[number])
            answers = answers + linear(
                before - self.prior_centre[number], self.prior_weight[number]
            )
        if self.kept:
            answers = answers + self.radial(vectors, context_BJ)
        if self.context and context_BJ is not None:
            features = self.features(context_BJ)
            answers = answers + features @ self.added
            if not self.kept:
                indicators = self.indicators(context_BJ)
                each = linear(vectors, self.own.flatten(0, 1)).view(*features.shape, -1)
                answers = answers + SHARED * torch.einsum("bd,bdm->bm", indicators, each)
        lengths = torch.tensor(self.target_tokens, device=answers.device)
        log_M = self.log.repeat_interleave(lengths, output_size=answers.shape[1])
        answers = torch.where(log_M > 0, answers.exp(), answers)
        return answers * self.slope + self.offset

    def radial(self, vectors_BF: Tensor, context_BJ: Tensor | None) -> Tensor:
        """(B, M) sums of kernels with the kept scans, as `linear.collapse.KeptWeights`."""
        gram = vectors_BF @ self.kept_vectors.T
        resembling = gram @ self.kept_products.T

        def halved(left: Tensor, right: Tensor) -> Tensor:
            return (left.square().sum(1)[:, None] + right.square().sum(1)) / 2

        one = gram - halved(vectors_BF, self.kept_vectors)
        two = resembling - halved(gram, self.kept_products)
        parts = []
        for number, weight in enumerate(self.kept_weight.split(self.target_tokens)):
            first, second = self.kept_scale[:, number]
            kernel = (first * one + second * two).exp()
            if context_BJ is not None and self.context:
                same = context_BJ[:, None] == self.kept_context  # NaN and -1 equal nothing
                kernel = kernel * (1 + SHARED * (same * self.kept_told[number]).sum(2))
            parts.append(kernel @ weight.T)
        return torch.cat(parts, dim=1)

    def indicators(self, context_BJ: Tensor) -> Tensor:
        """(B, D), as `linear.context.Context.indicators`."""
        parts = []
        for place, categories in enumerate(self.context):
            codes = torch.arange(max(1, categories), device=context_BJ.device)
            same = context_BJ[:, place, None] == codes
            parts.append(same.float() if categories else torch.zeros_like(same.float()))
        return torch.cat(parts, dim=1)

    def features(self, context_BJ: Tensor) -> Tensor:
        """(B, D), as `linear.context.Context.features`."""
        parts = []
        widths = [max(1, categories) for categories in self.context]
        pieces = self.indicators(context_BJ).split(widths, dim=1)
        shares = self.known_shares.split(widths)
        for place, categories in enumerate(self.context):
            if categories:
                known = pieces[place].sum(1, keepdim=True)
                parts.append(pieces[place] - known * shares[place])
            else:
                number = (context_BJ[:, place] - self.known_centre[place]) / self.known_scale[place]
                parts.append(torch.nan_to_num(number)[:, None])
        return torch.cat(parts, dim=1)

    def shrunk(self, edges_BE: Tensor) -> Tensor:
        """(B, R, R), as `linear.tangent.positive_definite`."""
        R = len(self.whitening)
        rows, columns = torch.triu_indices(R, R, 1, device=edges_BE.device)
        C = torch.zeros(len(edges_BE), R, R, device=edges_BE.device)
        C[:, rows, columns] = (1 - SHRINKAGE) * edges_BE
        C = C + C.transpose(1, 2) + torch.eye(R, device=edges_BE.device)
        values, vectors = torch.linalg.eigh(C)
        # Where no eigenvalue is lifted, C stays as it is, as in the plain formulation.
        lifted = (vectors * values.clamp_min(SHRINKAGE / 10)[:, None]) @ vectors.transpose(1, 2)
        low = (values[:, 0] < SHRINKAGE / 10)[:, None, None]
        return torch.where(low, lifted, C)

    def vectors(self, C_BRR: Tensor, whitening_RR: Tensor) -> Tensor:
        """Tangent vectors (B, F), as `linear.tangent.TangentSpace.vectors_of`."""
        values, vectors = torch.linalg.eigh(whitening_RR @ C_BRR @ whitening_RR)
        logs = (vectors * values.log()[:, None]) @ vectors.transpose(1, 2)
        R = len(whitening_RR)
        rows, columns = torch.triu_indices(R, R, device=C_BRR.device)
        scale = torch.where(rows == columns, 1.0, 2.0**0.5)
        return logs[:, rows, columns] * scale

    def combine(
        self,
        answers_BM: Tensor,
        decoder: Sequence[Tensor],
        active: Sequence[int],
        scalar: Sequence[bool],
    ) -> list[Tensor]:
        """One answer a target of both parts, as `linear.memory.combined`; the decoder's where the
        memory does not know the target.

        Args:
            answers_BM: as `forward` gives them.
            decoder: of each active target (B, K) logits or (B, 1) values in its unit.
            active: numbers of those targets.   scalar: of each, whether it is one.
        """
        parts = answers_BM.split(self.target_tokens, dim=1)
        found = []
        for number, own, is_scalar in zip(active, decoder, scalar, strict=True):
            gate, memory = self.gate[number], parts[number].to(own.dtype)
            both = (1 - gate) * memory + gate * own if is_scalar else memory + gate * own
            found.append(torch.where(self.knows[number] > 0, both, own))
        return found

    def alone(
        self, answers_BM: Tensor, decoder: Sequence[Tensor], active: Sequence[int]
    ) -> list[Tensor]:
        """As `combine` where every gate is 0."""
        parts = answers_BM.split(self.target_tokens, dim=1)
        return [
            torch.where(self.knows[number] > 0, parts[number].to(own.dtype), own)
            for number, own in zip(active, decoder, strict=True)
        ]
