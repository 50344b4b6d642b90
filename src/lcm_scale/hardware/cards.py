"""What plans and meters count on: a card's figures from its maker's data sheet, or those of this
machine from a short measurement.

One table, `CARDS`: a recipe names a card by its key, a machine by what its driver calls it.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from lcm_scale.errors import InputError, nearest
from lcm_scale.hardware.allocator import keep_freed_memory
from lcm_scale.hardware.precision import BF16_WIDTH, precision_of, working_dtype
from lcm_scale.model.flops import formulation_of, once_flops, training_flops
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig
from lcm_scale.model.products import multiply

PCIE = 25e9  # bytes/s one way: PCIe 4, 16 lanes
USABLE = 0.9  # of a card's memory: the rest is the allocator's and the libraries'
PROBED = LCMConfig(116, (27,), layers=2)  # two layers of the published width
PROBED_SCANS = 16


@dataclass(frozen=True)
class Card:
    """One device.

    Attributes:
        peak: FLOP/s, dense, in the precision it trains in.
        bandwidth: of its memory, bytes/s.
        memory: bytes.
        link: bytes/s to the other cards of its node, one way.
        device: torch's name of the kind.
        precision: in which it trains unasked; a CPU only from some width on, see `precision_for`.
        measured: `peak` was reached by a training step, not promised by a maker.
        peak_fp32: FLOP/s in fp32, where that is another number.
        driver_name: a pattern of the names under which drivers show it; empty: none.
    """

    peak: float
    bandwidth: float
    memory: float
    link: float
    device: str = "cuda"
    precision: str = "bf16-mixed"
    measured: bool = False
    peak_fp32: float | None = None
    driver_name: str = ""

    def precision_for(self, width: int) -> str:
        """The precision in which it trains a model so wide."""
        return self.precision if self.device == "cuda" or width >= BF16_WIDTH else "32-true"

    def peak_in(self, precision: str) -> float:
        """FLOP/s in one of Lightning's precisions."""
        if self.peak_fp32 is not None and working_dtype(precision) == torch.float32:
            return self.peak_fp32
        return self.peak


# From the makers' data sheets: dense bf16 on tensor cores, fp32 without them, SXM cards (the PCIe
# ones reach less). Of consumer cards a suffix (Ti, SUPER, D, Laptop GPU) is another card.
CARDS = {
    "A100": Card(312e12, 2.0e12, 80e9, 300e9, peak_fp32=19.5e12, driver_name=r"\bA100\b(?!.*40GB)"),
    "A100-40GB": Card(
        312e12, 1.56e12, 40e9, 300e9, peak_fp32=19.5e12, driver_name=r"\bA100\b.*40GB"
    ),
    "H100": Card(989e12, 3.35e12, 80e9, 450e9, peak_fp32=67e12, driver_name=r"\bH100\b"),
    "H200": Card(989e12, 4.8e12, 141e9, 450e9, peak_fp32=67e12, driver_name=r"\bH200\b"),
    # The rest has no NVLink between all cards of a node: PCIe 4.
    "L40S": Card(362e12, 0.86e12, 48e9, PCIE, peak_fp32=91.6e12, driver_name=r"\bL40S\b"),
    "24GB": Card(165e12, 1.0e12, 24e9, PCIE, peak_fp32=82.6e12, driver_name=r"\bRTX 4090$"),
    "RTX 3090": Card(71e12, 0.94e12, 24e9, PCIE, peak_fp32=35.6e12, driver_name=r"\bRTX 3090$"),
    "12GB": Card(58e12, 0.5e12, 12e9, PCIE, peak_fp32=29.1e12, driver_name=r"\bRTX 4070$"),
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


def card_named(driver_name: str) -> Card | None:
    """The card that a driver calls so, None where the table has none."""
    for card in CARDS.values():
        if card.driver_name and re.search(card.driver_name, driver_name):
            return card
    return None


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one device: a data sheet's, or what a large product reaches here."""
    if device.type == "cuda" and dtype != torch.float32:
        card = card_named(torch.cuda.get_device_name(device))
        if card is not None:
            return card.peak
    side = 8192 if device.type == "cuda" else 1024
    # Values do not matter, and the run's random numbers must not move.
    a = torch.ones(side, side, dtype=dtype, device=device)
    return 2 * side**3 / _seconds(lambda: multiply(a, a), device)


def card_as_driven(driver_name: str, memory: float) -> Card | None:
    """The table's figures of the card that a driver calls so, with the memory that it really has;
    None where the table has none."""
    known = card_named(driver_name)
    if known is None:
        return None
    # The form that is plugged in has no NVLink to all cards of its node.
    link = min(known.link, PCIE) if "PCI" in driver_name.upper() else known.link
    return replace(known, memory=memory, link=link)


def card_here(device: torch.device) -> Card:
    """This GPU: the table's figures with the memory that it really has.

    One that the table does not name gets a measured peak, and a consumer card's bandwidth and link.
    """
    memory = torch.cuda.get_device_properties(device).total_memory
    known = card_as_driven(torch.cuda.get_device_name(device), memory)
    if known is not None:
        return known
    peak, single = (peak_flops(device, dtype) for dtype in (torch.bfloat16, torch.float32))
    return replace(CARDS["24GB"], peak=peak, peak_fp32=single, memory=memory, driver_name="")


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
    of_step = training_flops(PROBED, formulation, device=device.type, dtype=dtype)
    flops = PROBED_SCANS * of_step + once_flops(PROBED, device=device.type, dtype=dtype)
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
    second = torch.empty_like(numbers, device="cuda:1")
    return numbers.nbytes / _seconds(lambda: second.copy_(numbers), numbers.device)


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
