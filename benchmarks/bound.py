"""The physical bound of a training step: what its counted products take at the best rate that this
machine reaches in the same run, and Adam's bytes at its best pace.

Legend: N rows of tokens (batch x M), D width, F ffn, H heads, K = D / H, R regions. A product is
(rows, inner, columns).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lcm_scale.model.presets import LCMConfig
from lcm_scale.model.products import ONEDNN

SQUARES = (1024, 2048)
# A parameter's fp32 value, gradient and two averages are read; value and averages are written.
ADAM_BYTES = 7 * 4
COPIED = 1 << 26  # fp32 numbers, eight times what a last-level cache of 32 MB holds
REPEATS = 3


@dataclass(frozen=True)
class Machine:
    """The best of everything measured, in FLOP/s and bytes/s."""

    products: dict[str, float]
    copy: float

    def best_of(self, other: Machine) -> Machine:
        """The better of two measurements of the same things."""
        products = {name: max(rate, other.products[name]) for name, rate in self.products.items()}
        return Machine(products, max(self.copy, other.copy))


def measure(
    config: LCMConfig, batch: int, tokens: int, precision: str, device: str, clock: Callable
) -> Machine:
    """Rates of large square products and of the step's own shapes, by every library that torch has
    for them, and the pace of a copy.

    Args: clock: wall time or processor time, as the step's figures are.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    shapes = [(n, n, n) for n in SQUARES] + step_shapes(config, batch, tokens)
    products = {}
    for name, multiply in _libraries(dtype, device).items():
        for rows, inner, columns in shapes:
            a = torch.randn(rows, inner, device=device).to(dtype)
            b = torch.randn(inner, columns, device=device).to(dtype)
            seconds = best_time(partial(multiply, a, b), device, clock)
            rate = 2 * rows * inner * columns / seconds
            products[f"{name}, {rows} x {inner} x {columns}"] = rate
    source = torch.ones(COPIED, device=device)
    target = torch.empty_like(source)
    seconds = best_time(lambda: target.copy_(source), device, clock)
    return Machine(products, 2 * source.nbytes / seconds)


def step_shapes(config: LCMConfig, batch: int, tokens: int) -> list[tuple[int, int, int]]:
    """The shapes that nearly all of a step's FLOPs are in: tokens through weights and their
    gradients, heads' slices of weights, attending in one scan."""
    N, D, F, R = batch * tokens, config.width, config.ffn, config.n_regions
    K, S = D // config.heads, config.heads * tokens
    return [(N, D, D), (D, N, D), (N, D, F), (N, K, D), (N, D, K), (S, D, R), (S, R, D)]


def _libraries(dtype: torch.dtype, device: str) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    if device == "cuda":
        return {"cuBLAS": torch.mm}
    if not ONEDNN:
        return {"torch": torch.mm}

    def onednn(a: Tensor, b: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")

    # torch's own product is MKL's in fp32, and oneDNN's in bf16.
    return {"oneDNN": onednn, ("MKL" if dtype == torch.float32 else "torch"): torch.mm}


def best_time(work: Callable[[], Any], device: str, clock: Callable[[], float]) -> float:
    """Seconds of the quickest of a few runs, after one that makes kernels and touches memory."""
    times = []
    for _ in range(REPEATS + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = clock()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return min(times[1:])


def bound(
    machine: Machine, flops: int, parameters: int, adam_s: float, step_s: float
) -> dict[str, Any]:
    """What a row says of its bound.

    Args:
        flops: of our step's products, those included that are made again in backward.
        adam_s: our quickest update of all parameters.
        step_s: our step's median.
    """
    adam = ADAM_BYTES * parameters / adam_s
    by = max(machine.products, key=machine.products.__getitem__)
    rate, pace = machine.products[by], max(adam, machine.copy)
    seconds = flops / rate + ADAM_BYTES * parameters / pace
    return {
        "seconds": float(f"{seconds:.4g}"),
        "share": round(seconds / step_s, 3),
        "gflop": round(flops / 1e9, 2),
        "gflops": round(rate / 1e9, 1),
        "gflops_by": by,
        "adam_gb": round(ADAM_BYTES * parameters / 1e9, 3),
        "gb_per_s": round(pace / 1e9, 1),
        "gb_per_s_by": "Adam" if adam > machine.copy else "copy",
        "measured_gflops": {
            name: round(value / 1e9, 1) for name, value in machine.products.items()
        },
        "measured_gb_per_s": {"Adam": round(adam / 1e9, 1), "copy": round(machine.copy / 1e9, 1)},
    }


def sentence(row: dict[str, Any]) -> str:
    """A row's bound, our share of it and the ratio of counted FLOPs, for people."""
    found = row["bound"]
    return (
        f"bound {found['seconds']:.3g} s ({found['gflop']:.4g} GFLOP at {found['gflops']:.4g} "
        f"GFLOP/s by {found['gflops_by']}; {found['adam_gb']:.3g} GB at {found['gb_per_s']:.3g} "
        f"GB/s by {found['gb_per_s_by']}), our share of it {found['share']:.2f}; the published "
        f"model's counted FLOPs over ours {row['flop_ratio']:.2f}"
    )
