"""Losses and layer readouts, branch-free: every rank runs the same operations whatever its labels
are.

Legend: L layers, B scans, M active tokens, C active targets. Labels come as floats, NaN where
missing; weights hold what each scan's term counts, 0 where its label is missing, already divided by
the target's sum over the global batch. So a batch without any label of a target contributes 0,
where the published code yields NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_scale.config.run import READOUTS
from lcm_scale.vocabulary import Target


@dataclass(frozen=True)
class TargetLoss:
    """How one target enters the loss.

    Attributes:
        weight: factor of its term.   centre, scale: a scalar's token predicts (value - centre) /
            scale.
    """

    target: Target
    weight: float = 1.0
    centre: float = 0.0
    scale: float = 1.0


def select_layer(logits_LBk: Tensor, label_B: Tensor, readout: str) -> Tensor:
    """The logits that the loss sees, (B, k).

    ``mean``: the mean over the layers (the paper's momentum training). ``adaptive``: per scan all
    logits of the layer in which the raw logit of the true category is largest; the gradient reaches
    that layer's output alone. ``last``: the last layer (the published single-set runs).
    """
    if readout == "mean":
        return logits_LBk.mean(0)
    if readout == "last":
        return logits_LBk[-1]
    L, B, k = logits_LBk.shape
    true_LB = logits_LBk.gather(2, label_B.view(1, B, 1).expand(L, B, 1)).squeeze(2)
    best_B = true_LB.argmax(0)
    return logits_LBk.gather(0, best_B.view(1, B, 1).expand(1, B, k)).squeeze(0)


def read(
    logits_LBM: Tensor, labels_BC: Tensor, terms: Sequence[TargetLoss], readout: str
) -> list[Tensor]:
    """What the loss sees of every target: (B, classes) logits, or (B, 1) values in the scalar's own
    units.

    Age is always the mean over layers, but for ``last``, which follows the published single-set
    runs throughout.
    """
    result = []
    for c, (term, part) in enumerate(_split(logits_LBM, terms, readout)):
        if term.target.is_class:
            result.append(select_layer(part, torch.nan_to_num(labels_BC[:, c]).long(), readout))
        else:
            result.append(
                (part[-1] if readout == "last" else part.mean(0)) * term.scale + term.centre
            )
    return result


def evaluation_read(logits_LBM: Tensor, terms: Sequence[TargetLoss], readout: str) -> list[Tensor]:
    """As `read`, without any label.

    After ``adaptive`` training a class logit is its largest over the layers, each class for itself
    (docs/model.md, Losses and readouts); after the other readouts it is read as it was trained.
    """
    result = []
    for term, part in _split(logits_LBM, terms, readout):
        if term.target.is_class and readout == "adaptive":
            result.append(part.amax(0))
        else:
            result.append(part[-1] if readout == "last" else part.mean(0))
            if not term.target.is_class:
                result[-1] = result[-1] * term.scale + term.centre
    return result


def losses(
    read_outs: Sequence[Tensor],
    labels_BC: Tensor,
    weights_BC: Tensor,
    terms: Sequence[TargetLoss],
    label_smoothing: float = 0.0,
) -> Tensor:
    """One loss a target: cross-entropy over the target's tokens, or squared error of a scalar (in
    units of its scale).

    Returns: (C,); each is multiplied by its `TargetLoss.weight` already, their sum is the training
        loss.
    """
    result = []
    for c, (term, value) in enumerate(zip(terms, read_outs, strict=True)):
        label = torch.nan_to_num(labels_BC[:, c])
        if term.target.is_class:
            each = F.cross_entropy(
                value, label.long(), reduction="none", label_smoothing=label_smoothing
            )
        else:
            each = ((value[:, 0] - label) / term.scale).square()
        result.append(term.weight * (each * weights_BC[:, c]).sum())
    return torch.stack(result)


def _split(
    logits_LBM: Tensor, terms: Sequence[TargetLoss], readout: str
) -> list[tuple[TargetLoss, Tensor]]:
    """Each target with its tokens' logits, in fp32 (or wider).  Raises: ValueError for a readout
    that is none, which would else be read as another."""
    if readout not in READOUTS:
        raise ValueError(f"readout {readout!r} is not one of {READOUTS}")
    wide = logits_LBM.to(torch.promote_types(logits_LBM.dtype, torch.float32))
    parts = wide.split([term.target.n_tokens for term in terms], dim=2)
    return list(zip(terms, parts, strict=True))
