"""How large people memory gets, known before anything is allocated."""

from __future__ import annotations

from lcm_scale.linear.landmarks import BLOCK

MOST_SCANS = 4000  # beyond it products of all with all cost minutes and gigabytes
LANDMARKS = 2000  # scans that all are then compared with
# Bytes of all scans' products with the landmarks; of more than 268,000 scans fewer are landmarks.
LARGEST_PRODUCTS = 4 * 2**30


def landmarks_of(n_scans: int) -> int | None:
    """Of so many scans how many may be landmarks; None: all meet all."""
    if n_scans <= MOST_SCANS:
        return None
    return min(LANDMARKS, LARGEST_PRODUCTS // (8 * n_scans))


def memory_bytes(n_scans: int, n_regions: int, most: int | None) -> int:
    """About the most host memory that fitting takes at one time.

    Args: most: landmarks, None: all meet all.
    """
    E, F = n_regions * (n_regions - 1) // 2, n_regions * (n_regions + 1) // 2
    n, p = n_scans, min(n_scans, most or n_scans)
    # A scan's matrix, and its vector as a piece, in one piece and scaled.
    scan = 8 * n_regions**2 + 24 * F
    # Of the p: vectors, then kernels, each with what leads to one ridge.
    landmarks = max(scan * p, 8 * F * p + 8 * 12 * p * p)
    rows = 0 if most is None else 8 * n * p + min(n, BLOCK) * max(scan, 8 * 14 * p)
    return 4 * n * E + rows + landmarks


def sentence(n_scans: int, n_regions: int) -> str:
    """What a plan says of fitting it."""
    most = landmarks_of(n_scans)
    met = "each other" if most is None else f"{most:,} landmarks"
    need = memory_bytes(n_scans, n_regions, most) / 1e9
    return (
        f"people memory: {n_scans:,} scans are compared with {met} once the decoder is trained, "
        f"in about {need:.2g} GB of the host's memory"
    )
