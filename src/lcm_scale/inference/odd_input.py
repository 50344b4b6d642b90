"""What about matrices that somebody hands to a model is unlike those it was trained on.

Only the part above the diagonal is asked, so nothing here changes an answer: it says where an
answer may not mean what it seems to.
Shapes: B scans, R regions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lcm_scale.model.triangle import upper
from lcm_scale.weights.meaning import Meaning

CLOSE = 1e-3  # to a diagonal of ones, and of the two halves to each other
SLACK = 0.2  # share by which a mean |r| may lie outside the training scans' range


def odd_input(meaning: Meaning, fc_BRR: Tensor) -> list[str]:
    """In words, a sentence an oddity; empty where there is none.

    Args: fc_BRR: (B, R, R) as a model is asked, in its order of regions.
    """
    fc = fc_BRR.detach().double().cpu()
    found = []
    diagonal = torch.diagonal(fc, dim1=1, dim2=2)
    # Zeros are what many tools put there, and what covariances have there is theirs.
    strange = ((diagonal - 1).abs() > CLOSE) & (diagonal.abs() > CLOSE)
    if "covariance" not in meaning.kinds and bool(strange.any()):
        found.append(
            f"the diagonal of {_of(strange.any(1))} is neither 1 nor 0, so that they are no "
            f"correlations as they were computed (from {float(diagonal.min()):.3g} to "
            f"{float(diagonal.max()):.3g})"
        )
    uneven = ((fc - fc.mT).abs() > CLOSE).flatten(1).any(1)
    if bool(uneven.any()):
        found.append(f"{_of(uneven)} are not symmetric; the part above the diagonal is asked")
    if meaning.cohort is not None:
        edges = upper(fc).numpy()
        low, high = meaning.cohort.size
        size = torch.from_numpy(np.abs(edges).mean(axis=1))
        outside = (size < low * (1 - SLACK)) | (size > high * (1 + SLACK))
        if bool(outside.any()):
            kinds = ", ".join(meaning.kinds) or "connectivity"
            found.append(
                f"the mean |r| of {_of(outside)} is from {float(size.min()):.3g} to "
                f"{float(size.max()):.3g}, of the {kinds} matrices it was trained on from "
                f"{low:.3g} to {high:.3g}: is it the same kind of connectivity, computed as there?"
            )
    return found


def _of(which: Tensor) -> str:
    return f"{int(which.sum())} of {len(which)} matrices"
