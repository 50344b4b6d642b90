"""Which formulation of the cross-attention is the quickest for a shape, by counted FLOPs and
measured efficiencies.

Legend: B scans, M tokens, R regions, D width, H heads. A formulation is products of four shapes;
each runs at a share of the rate of a large square product that depends on shape, device and
precision. Shares of CPUs were judged from short timings of the kernels (Zen 5, avx512_bf16); those
of GPUs are assumed until one measures them.
"""

from __future__ import annotations

import torch

# Shares of the peak rate: weights times all memory rows; weights times all tokens; heads' slices of
# weights times tokens; attending in K dimensions a head (projected) or in D (absorbed).
EFFICIENCY: dict[tuple[str, bool], dict[str, float]] = {
    ("cpu", False): {"memory": 1.0, "tokens": 1.0, "heads": 0.95, "narrow": 0.3, "wide": 0.8},
    ("cpu", True): {"memory": 1.0, "tokens": 1.0, "heads": 0.85, "narrow": 0.35, "wide": 0.75},
    ("cuda", False): {"memory": 1.0, "tokens": 1.0, "heads": 0.9, "narrow": 0.4, "wide": 0.8},
    ("cuda", True): {"memory": 1.0, "tokens": 1.0, "heads": 0.8, "narrow": 0.4, "wide": 0.7},
}


def costs(
    B: int, M: int, R: int, D: int, H: int, device: str, dtype: torch.dtype
) -> dict[str, float]:
    """Forward and backward of each formulation in FLOPs at the peak rate, without the output
    projection's."""
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
    if cost["absorbed"] <= cost["projected"]:
        return "absorbed"
    return "flash" if device == "cuda" else "projected"
