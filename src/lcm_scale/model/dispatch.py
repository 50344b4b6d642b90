"""Which formulation of the cross-attention is the quickest for a shape, by counted FLOPs and
measured efficiencies.

Legend: B scans, M tokens, R regions, D width, H heads. A formulation is products of four shapes;
each runs at a share of the rate of a large square product that depends on shape, device and
precision. Shares of CPUs were judged from short timings of the kernels (Zen 5, avx512_bf16); those
of GPUs are assumed until one measures them. In narrow models it is not the products that take the
time: `BUILT_IN` says by how much the counts flatter `absorbed` there, and `lcm-scale tune` measures
that on a machine (hardware/tune.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

# Shares of the peak rate: weights times all memory rows; weights times all tokens; heads' slices of
# weights times tokens; attending in K dimensions a head (projected) or in D (absorbed).
EFFICIENCY: dict[tuple[str, bool], dict[str, float]] = {
    ("cpu", False): {"memory": 1.0, "tokens": 1.0, "heads": 0.95, "narrow": 0.3, "wide": 0.8},
    ("cpu", True): {"memory": 1.0, "tokens": 1.0, "heads": 0.85, "narrow": 0.35, "wide": 0.75},
    ("cuda", False): {"memory": 1.0, "tokens": 1.0, "heads": 0.9, "narrow": 0.4, "wide": 0.8},
    ("cuda", True): {"memory": 1.0, "tokens": 1.0, "heads": 0.8, "narrow": 0.4, "wide": 0.7},
}
# Device and whether products are in half the width ("cpu fp32", "cuda half") -> width -> how much
# longer `absorbed` takes beside the other than the counts say.
Factors = Mapping[str, Mapping[int, float]]
# Measured on a Zen 4 by one thread, where the two take equally long.
BUILT_IN: Factors = {"cpu fp32": {32: 1.35, 64: 1.35, 128: 1.45, 256: 1.25, 512: 1.25, 2048: 1.0}}
_in_force = BUILT_IN


def kind(device: str, dtype: torch.dtype) -> str:
    """A key of `Factors`."""
    half = dtype in (torch.bfloat16, torch.float16)
    return f"{'cuda' if device == 'cuda' else 'cpu'} {'half' if half else 'fp32'}"


def use(factors: Factors | None) -> None:
    """What `choose` goes by in this process from now on; None: what is built in."""
    global _in_force
    _in_force = BUILT_IN if factors is None else factors


def factor(D: int, device: str, dtype: torch.dtype) -> float:
    """Between measured widths in a straight line over their logarithms, beyond them the last; 1 of
    a kind that was not measured."""
    known = _in_force.get(kind(device, dtype))
    if not known:
        return 1.0
    widths = sorted(known)
    if not widths[0] < D < widths[-1]:
        return known[widths[0] if widths[0] >= D else widths[-1]]
    above = next(width for width in widths if width >= D)
    below = widths[widths.index(above) - 1]
    part = math.log(D / below) / math.log(above / below)
    return known[below] ** (1 - part) * known[above] ** part


def costs(
    B: int, M: int, R: int, D: int, H: int, device: str, dtype: torch.dtype
) -> dict[str, float]:
    """Forward and backward of each formulation in FLOPs at the peak rate, without the output
    projection's, and without `factor`."""
    share = EFFICIENCY[
        ("cuda" if device == "cuda" else "cpu", dtype in (torch.bfloat16, torch.float16))
    ]
    tokens, attend = 2 * B * M * D * D, 2 * B * M * R * D
    projected = 3 * (
        tokens / share["tokens"]
        + 2 * (2 * B * R * D * D) / share["memory"]
        + 2 * attend / share["narrow"]
    )
    # backward makes the absorbed queries and the attended rows anew
    absorbed = (
        3 * tokens / share["tokens"] + 7 * tokens / share["heads"] + 7 * H * attend / share["wide"]
    )
    return {"projected": projected, "absorbed": absorbed}


def choose(
    B: int, M: int, R: int, D: int, H: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> str:
    """The formulation to run: the cheaper one, attending by a fused kernel where the device has one
    for projected."""
    cost = costs(B, M, R, D, H, device, dtype)
    if cost["absorbed"] * factor(D, device, dtype) <= cost["projected"]:
        return "absorbed"
    return "flash" if device == "cuda" else "projected"
