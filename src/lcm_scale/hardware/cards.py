"""What plans count on: a card's figures from its maker's data sheet, or those of this machine from
a short measurement."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lcm_scale.errors import InputError, nearest
from lcm_scale.hardware.allocator import keep_freed_memory
from lcm_scale.hardware.precision import BF16_WIDTH, precision_of, working_dtype
from lcm_scale.model.flops import formulation_of, once_flops, training_flops
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig

USABLE = 0.9  # of a card's memory: the rest is the allocator's and the libraries'
PROBED = LCMConfig(116, (27,), layers=2)  # two layers of the published width
PROBED_SCANS = 16


@dataclass(frozen=True)
class Card:
    """One device.

    Attributes:
        peak: FLOP/s, dense, in the precision it trains in.   bandwidth: of its memory, bytes/s.
            memory: bytes.
        link: bytes/s to the other cards of its node, one way.   device: torch's name of the kind.
        precision: in which it trains unasked; a CPU only from some width on, see `precision_for`.
        measured: `peak` was reached by a training step, not promised by a maker.
    """

    peak: float
    bandwidth: float
    memory: float
    link: float
    device: str = "cuda"
    precision: str = "bf16-mixed"
    measured: bool = False

    def precision_for(self, width: int) -> str:
        """The precision in which it trains a model so wide."""
        return self.precision if self.device == "cuda" or width >= BF16_WIDTH else "32-true"


CARDS = {
    "A100": Card(312e12, 2.0e12, 80e9, 300e9),
    "H100": Card(989e12, 3.35e12, 80e9, 450e9),
    "H200": Card(989e12, 4.8e12, 141e9, 450e9),
    "24GB": Card(165e12, 1.0e12, 24e9, 25e9),  # a consumer card of that size (RTX 4090): no NVLink
    "12GB": Card(58e12, 0.5e12, 12e9, 25e9),  # the same, RTX 4070
    "cpu": Card(1.0e11, 1.0e10, 16e9, 5e9, "cpu", "32-true"),  # one core with avx512
}
YOURS = "yours"


def card_of(name: str) -> Card:
    """A card by name; ``yours`` measures this machine.  Raises: InputError for a name that is
    none."""
    if name == YOURS:
        return probe()
    if name not in CARDS:
        raise InputError(f"gpu={name}{nearest(name, CARDS)} (one of {', '.join(CARDS)}, {YOURS})")
    return CARDS[name]


@functools.cache
def probe() -> Card:
    """This machine's first GPU, or its CPU with the threads that torch has: some seconds of
    training two published layers."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    if not on_gpu:
        keep_freed_memory()  # as a run does
    model, fc = LCM(PROBED).to(device), torch.rand(PROBED_SCANS, 116, 116, device=device)
    precision = precision_of("auto", device.type, PROBED.width)
    dtype = working_dtype(precision)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = model(fc).float().square().mean()
        loss.backward()

    formulation = formulation_of(PROBED, PROBED.n_tokens, PROBED_SCANS, device.type, dtype)
    flops = PROBED_SCANS * training_flops(PROBED, formulation) + once_flops(PROBED)
    numbers = torch.rand(1 << 26, device=device)
    target = torch.empty_like(numbers)
    copy = _seconds(lambda: target.copy_(numbers), device)
    return Card(
        peak=flops / _seconds(step, device),
        bandwidth=2 * numbers.nbytes / copy,
        memory=torch.cuda.get_device_properties(device).total_memory if on_gpu else _free_memory(),
        link=_link(numbers) if on_gpu else CARDS["cpu"].link,
        device=device.type,
        precision=precision,
        measured=True,
    )


def _link(numbers: torch.Tensor) -> float:
    """Bytes/s from the first GPU to the second; PCIe's usual where there is none."""
    if torch.cuda.device_count() < 2:
        return CARDS["24GB"].link
    there = torch.empty_like(numbers, device="cuda:1")
    return numbers.nbytes / _seconds(lambda: there.copy_(numbers), numbers.device)


def _free_memory() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The fastest of some repeats: what disturbs a short measurement only ever slows it."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
