"""What a run reaches: scans/s, FLOP/s, its share of the hardware's peak, waiting for data, memory,
energy. A row an epoch.

FLOP/s counts what runs, by the formulation's exact count (model/flops.py); MFU counts what the
function needs, without products made again in backward, against the peak of the working precision:
hardware/cards.py gives it. Cost: two clock readings a step.
"""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L
import torch

from lcm_scale.data.module import ConnectomeData
from lcm_scale.hardware.cards import peak_flops
from lcm_scale.hardware.precision import working_dtype
from lcm_scale.hardware.usage import energy_counter, peak_memory
from lcm_scale.model.flops import formulation_of, once_flops, training_flops
from lcm_scale.training.module import LCMModule


class Meter(L.Callback):
    """Measures an epoch's training steps, validation and checkpoints at its end aside. Always
    added, last."""

    def __init__(self, data: ConnectomeData) -> None:
        self.data = data
        self.peak: float | None = None
        self.energy = energy_counter()
        self._start(0)

    def _start(self, consumed: int) -> None:
        self.began = self.ended = time.perf_counter()
        self.first, self.waited, self.steps = consumed, 0.0, 0
        self.joules = self.energy() if self.energy else 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module: LCMModule = pl_module  # type: ignore[assignment]
        if self.peak is None:
            self.peak = peak_flops(module.device, working_dtype(str(trainer.precision)))
        if module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(module.device)
        self._start(self.data.consumed)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.waited += time.perf_counter() - self.ended

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.steps += 1
        self.ended = time.perf_counter()

    def row(self, trainer: L.Trainer, module: LCMModule) -> dict[str, float]:
        """The epoch so far: over all devices, but `mfu` and `memory_gb`, which are one device's."""
        seconds, scans = self.ended - self.began, self.data.consumed - self.first
        if not self.steps or seconds <= 0:
            return {}
        config = module.model.config
        tokens = sum(config.target_tokens[number] for number in module.phase.active)
        per_device = scans / trainer.world_size
        batch = max(1, round(per_device / self.steps))
        where = module.device.type, working_dtype(str(trainer.precision))
        formulation = formulation_of(config, tokens, batch, *where)
        trains = module.recipe.optim.trains
        counts = [
            training_flops(config, formulation, tokens, recomputed, trains, *where)
            for recomputed in (True, False)
        ]
        once = once_flops(config, tokens, trains, *where)
        done, useful = (per_device * count + self.steps * once for count in counts)
        row = {
            "scans_per_s": scans / seconds,
            "tflops": trainer.world_size * done / seconds / 1e12,
            "mfu": useful / seconds / self.peak if self.peak else 0.0,
            "data_wait": self.waited / seconds,
            "memory_gb": peak_memory(module.device) / 1e9,
        }
        if self.energy:
            row["energy_kj"] = (self.energy() - self.joules) / 1e3
        return {key: _four_digits(value) for key, value in row.items()}


def _four_digits(value: float) -> float:
    """What a log needs; a number that is none stays as it is."""
    if not value or not math.isfinite(value):
        return value
    return round(value, 3 - math.floor(math.log10(abs(value))))
