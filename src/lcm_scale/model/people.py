"""Ours, not LCM: people memory beside the decoder, as `linear.memory` fits it in closed form.

A scan's tangent vector meets one weight vector a token. Beside the decoder's answer stands the
memory's, and a gate a target says how much the decoder adds. Nothing here has a gradient: training
does not know this part, it is fitted when training is done (`training.remember`).
Legend: B scans, R regions, E edges R(R-1)/2, F = E + R tangent features, M tokens, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lcm_scale.linear.memory import ABSENT
from lcm_scale.linear.memory import PeopleMemory as FittedMemory
from lcm_scale.linear.tangent import SHRINKAGE


class PeopleMemory(nn.Module):
    """The collapsed memory of all targets of a vocabulary.

    Args: target_tokens: tokens of each target, in vocabulary order.
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

    def __init__(self, n_regions: int, target_tokens: Sequence[int]) -> None:
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

    @torch.no_grad()
    def fill(self, fitted: FittedMemory, names: Sequence[str]) -> None:
        """Take over what was fitted.  Args: names: of the targets, in vocabulary order."""

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).float()

        self.whitening.copy_(tensor(fitted.whitening))
        self.centre.copy_(tensor(fitted.centre))
        starts = np.cumsum([0, *self.target_tokens])
        for number, name in enumerate(names):
            target = fitted.targets.get(name)
            if target is None:
                continue
            first, end = starts[number], starts[number + 1]
            rows = [int(first) + code for code in (target.classes or (0,))]
            self.weight[rows] = tensor(target.common.T)
            self.intercept[rows] = tensor(target.intercept)
            self.slope[rows] = tensor(target.slopes) if target.n_classes else 1.0
            if target.n_classes:
                self.offset[first:end] = ABSENT
                self.offset[rows] = tensor(target.offsets)
            self.log[number], self.knows[number] = float(target.log), 1.0
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
        for table in (self.centre, self.weight):
            table.copy_(torch.empty_like(table).index_copy_(-1, feature, table))
        self.whitening[place[:, None], place] = self.whitening.clone()

    def forward(self, edges_BE: Tensor) -> Tensor:
        """Raw correlations (B, E) to (B, M): logits, and values of scalars in their own unit."""
        vectors = self.vectors(edges_BE.float()) - self.centre
        answers = torch.nn.functional.linear(vectors, self.weight, self.intercept)
        lengths = torch.tensor(self.target_tokens, device=answers.device)
        log_M = self.log.repeat_interleave(lengths, output_size=answers.shape[1])
        answers = torch.where(log_M > 0, answers.exp(), answers)
        return answers * self.slope + self.offset

    def vectors(self, edges_BE: Tensor) -> Tensor:
        """Tangent vectors (B, F), as `linear.tangent.TangentSpace.vectors`."""
        R = self.whitening.shape[0]
        rows, columns = torch.triu_indices(R, R, 1, device=edges_BE.device)
        C = torch.zeros(len(edges_BE), R, R, device=edges_BE.device)
        C[:, rows, columns] = (1 - SHRINKAGE) * edges_BE
        C = C + C.transpose(1, 2) + torch.eye(R, device=edges_BE.device)
        values, vectors = torch.linalg.eigh(C)
        # Where no eigenvalue is lifted, C stays as it is, as in the plain formulation.
        lifted = (vectors * values.clamp_min(SHRINKAGE / 10)[:, None]) @ vectors.transpose(1, 2)
        low = (values[:, 0] < SHRINKAGE / 10)[:, None, None]
        C = torch.where(low, lifted, C)
        values, vectors = torch.linalg.eigh(self.whitening @ C @ self.whitening)
        logs = (vectors * values.log()[:, None]) @ vectors.transpose(1, 2)
        rows, columns = torch.triu_indices(R, R, device=edges_BE.device)
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
