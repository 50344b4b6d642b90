"""Losses and layer readouts, branch-free: every rank runs the same operations whatever its labels
are.

Legend: L layers, B scans, M active tokens, C active targets. Labels come as floats, NaN where
missing; weights hold what each scan's term counts, 0 where its label is missing, already divided by
the target's sum over the global batch. So a batch without any label of a target contributes 0,
where the published code yields NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_scale.errors import InputError, nearest
from lcm_scale.vocabulary import Target


@dataclass(frozen=True)
class TargetLoss:
    """How one target enters the loss.

    Attributes:
        weight: factor of its term.   centre, scale: a scalar's token predicts (value - centre) /
            scale, of a scalar with a log scale the logarithm's. Where scans of several models stand
            in one batch, (B, 1) of each scan's model.
    """

    target: Target
    weight: float = 1.0
    centre: float | Tensor = 0.0
    scale: float | Tensor = 1.0

    def learnt(self, value: Tensor) -> Tensor:
        """Of a scalar: from its unit to what is learnt, its logarithm or itself."""
        return value.log() if self.target.log else value

    def in_unit(self, value: Tensor) -> Tensor:
        """Of a scalar: from what is learnt to its unit."""
        return value.exp() if self.target.log else value


def _mean(logits_LBk: Tensor) -> Tensor:
    return logits_LBk.mean(0)


def _last(logits_LBk: Tensor) -> Tensor:
    return logits_LBk[-1]


def _largest(logits_LBk: Tensor) -> Tensor:
    return logits_LBk.amax(0)


def _layer_of_the_true_category(logits_LBk: Tensor, label_B: Tensor) -> Tensor:
    L, B, k = logits_LBk.shape
    true_LB = logits_LBk.gather(2, label_B.view(1, B, 1).expand(L, B, 1)).squeeze(2)
    best_B = true_LB.argmax(0)
    return logits_LBk.gather(0, best_B.view(1, B, 1).expand(1, B, k)).squeeze(0)


@dataclass(frozen=True)
class Readout:
    """Which layers' logits count: (L, B, k) to (B, k), k being a target's tokens.

    Attributes:
        scalar: of a scalar, in training and at evaluation.
        evaluated: of a class target, without its label.
        trained: of a class target, with its label (B,); None: as at evaluation.
    """

    scalar: Callable[[Tensor], Tensor]
    evaluated: Callable[[Tensor], Tensor]
    trained: Callable[[Tensor, Tensor], Tensor] | None = None


# `mean`: the mean over the layers (the paper's momentum training).
# `adaptive`: in training, per scan all logits of the layer in which the raw logit of the true
# category is largest, the gradient reaching that layer's output alone; at evaluation a logit is its
# largest over the layers, each class for itself (docs/model.md, Losses and readouts). Age stays the
# mean.
# `last`: the last layer throughout (the published single-set runs).
READOUTS: dict[str, Readout] = {
    "mean": Readout(_mean, _mean),
    "adaptive": Readout(_mean, _largest, _layer_of_the_true_category),
    "last": Readout(_last, _last),
}


def readout_of(name: str) -> Readout:
    """A readout by name.  Raises: InputError for a name that is none."""
    if name not in READOUTS:
        raise InputError(f"readout={name}{nearest(name, READOUTS)} (one of {', '.join(READOUTS)})")
    return READOUTS[name]


def select_layer(logits_LBk: Tensor, label_B: Tensor, readout: str) -> Tensor:
    """The logits that the loss sees, (B, k).  Raises: InputError for an unknown readout."""
    rule = readout_of(readout)
    return rule.trained(logits_LBk, label_B) if rule.trained else rule.evaluated(logits_LBk)


def read(
    logits_LBM: Tensor, labels_BC: Tensor, terms: Sequence[TargetLoss], readout: str
) -> list[Tensor]:
    """What the loss sees of every target: (B, classes) logits, or (B, 1) values in the scalar's own
    unit, their logarithm where it has a log scale.  Raises: InputError for an unknown readout."""
    scalar = readout_of(readout).scalar
    result = []
    for c, (term, part) in enumerate(_split(logits_LBM, terms)):
        if term.target.is_class:
            result.append(select_layer(part, torch.nan_to_num(labels_BC[:, c]).long(), readout))
        else:
            result.append(scalar(part) * term.scale + term.centre)
    return result


def evaluation_read(logits_LBM: Tensor, terms: Sequence[TargetLoss], readout: str) -> list[Tensor]:
    """As `read`, without any label, and scalars always in their own unit.  Raises: InputError for
    an unknown readout."""
    rule = readout_of(readout)
    return [
        rule.evaluated(part)
        if term.target.is_class
        else term.in_unit(rule.scalar(part) * term.scale + term.centre)
        for term, part in _split(logits_LBM, terms)
    ]


def losses(
    read_outs: Sequence[Tensor],
    labels_BC: Tensor,
    weights_BC: Tensor,
    terms: Sequence[TargetLoss],
    label_smoothing: float = 0.0,
) -> Tensor:
    """One loss a target: cross-entropy over the target's tokens, or squared error of a scalar (in
    units of its scale), of its logarithm where it has a log scale.

    Args: read_outs: as `read` gives them.   labels_BC: of scalars in their own unit.
    Returns: (C,); each is multiplied by its `TargetLoss.weight` already, their sum is the training
        loss.
    """
    each = _of_scans(read_outs, labels_BC, weights_BC, terms, label_smoothing)
    return torch.stack([term.weight * of.sum() for term, of in zip(terms, each, strict=True)])


def losses_of_models(
    models: int,
    read_outs: Sequence[Tensor],
    labels_BC: Tensor,
    weights_BC: Tensor,
    terms: Sequence[TargetLoss],
    label_smoothing: float = 0.0,
) -> Tensor:
    """As `losses`, of a batch in which as many scans of each of G models stand, one model after the
    other.  Returns: (G, C)."""
    each = _of_scans(read_outs, labels_BC, weights_BC, terms, label_smoothing)
    sums = [term.weight * of.view(models, -1).sum(1) for term, of in zip(terms, each, strict=True)]
    return torch.stack(sums, dim=1)


def _of_scans(
    read_outs: Sequence[Tensor],
    labels_BC: Tensor,
    weights_BC: Tensor,
    terms: Sequence[TargetLoss],
    label_smoothing: float,
) -> list[Tensor]:
    """Of each target (B,): what every scan adds to its loss."""
    result = []
    for c, (term, value) in enumerate(zip(terms, read_outs, strict=True)):
        label = torch.nan_to_num(labels_BC[:, c], nan=1.0 if term.target.log else 0.0)
        if term.target.is_class:
            each = F.cross_entropy(
                value, label.long(), reduction="none", label_smoothing=label_smoothing
            )
        else:
            each = ((value - term.learnt(label).unsqueeze(1)) / term.scale).square().squeeze(1)
        result.append(each * weights_BC[:, c])
    return result


def _split(logits_LBM: Tensor, terms: Sequence[TargetLoss]) -> list[tuple[TargetLoss, Tensor]]:
    """Each target with its tokens' logits, in fp32 (or wider)."""
    wide = logits_LBM.to(torch.promote_types(logits_LBM.dtype, torch.float32))
    parts = wide.split([term.target.n_tokens for term in terms], dim=2)
    return list(zip(terms, parts, strict=True))
