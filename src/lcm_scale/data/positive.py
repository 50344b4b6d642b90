"""Ready matrices that cannot be of the kind that they are said to be, told by their eigenvalues."""

from __future__ import annotations

import numpy as np

from lcm_scale.data.kinds import CORRELATIONS
from lcm_scale.errors import InputError

FAR_FROM_POSITIVE = 0.1  # below 0: a ready matrix's smallest eigenvalue that no rounding makes
ROUNDED = 0.01  # below 0: what rounding to two or three decimals makes
NOT_POSITIVE = "the smallest eigenvalue is between -.1 and -.01, as after rounding to few decimals"
PAIRS_MISSING = "pairs of regions without a number are stored as 0"


def remark_of(values: np.ndarray, finite: np.ndarray, kind: str, source: str) -> str:
    """What the reports say of a ready matrix, '' nothing.

    Args: finite: where the file has numbers.
    Raises: InputError where it cannot be of its kind.
    """
    present = finite.any(0) & (values * (1 - np.eye(len(values)))).any(0)
    pairs = finite[np.ix_(present, present)] | np.eye(present.sum(), dtype=bool)
    whole = np.flatnonzero(present)[pairs.all(0)]
    smallest = _smallest_eigenvalue(values[np.ix_(whole, whole)], kind)
    if smallest < -FAR_FROM_POSITIVE:
        whose = (
            "the smallest eigenvalue of 2 minus it"
            if kind == "partial"
            else ("its smallest eigenvalue")
        )
        raise InputError(
            f"{source}: cannot be a {kind} matrix: {whose} is "
            f"{smallest:.2g}, and none of one is below 0; was a triangle unpacked in "
            "another order (source.triangle), or are its rows and columns not in one order?"
        )
    remarks = [NOT_POSITIVE] if smallest < -ROUNDED else []
    remarks += [] if pairs.all() else [PAIRS_MISSING]
    return "; ".join(remarks)


def _smallest_eigenvalue(matrix: np.ndarray, kind: str) -> float:
    """Or 0 where it is above -`ROUNDED`, which a Cholesky decomposition tells for a fifth of the
    time, and where a matrix of that kind may have any.

    Partial correlations are minus an inverse that is scaled to a diagonal of 1, with the diagonal
    turned about: they may have eigenvalues below 0, but 2 minus them, that inverse, has none.
    """
    if kind not in (*CORRELATIONS, "partial") or not len(matrix):
        return 0.0
    # Many programs set a diagonal of correlations to 0.
    matrix = matrix + np.diag(np.where(np.diag(matrix) == 0, 1.0, 0.0))
    identity = np.eye(len(matrix))
    if kind == "partial":
        matrix = 2 * identity - matrix
    try:
        np.linalg.cholesky(matrix + ROUNDED * identity)
    except np.linalg.LinAlgError:
        return float(np.linalg.eigvalsh(matrix)[0])
    return 0.0
