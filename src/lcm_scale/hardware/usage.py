"""What a device has used so far: memory and energy."""

from __future__ import annotations

import importlib
import os
import resource
from collections.abc import Callable

import torch


def peak_memory(device: torch.device) -> int:
    """The most bytes held: by the allocator on a GPU, by the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def energy_counter() -> Callable[[], float] | None:
    """A function that gives the joules the current GPU has used so far, or None where nothing
    counts them."""
    if not torch.cuda.is_available():
        return None
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    # No library, no driver, an old card: energy is not measured, and nothing else depends on it.
    except Exception:
        return None
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
