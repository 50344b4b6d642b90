"""What this machine takes for the formulations of the cross-attention, measured once and kept for
every later run: `lcm-scale tune`.

At each width the number of tokens is looked up at which the counts of model/dispatch.py put the two
formulations equal; there both are timed, in turn, and how far apart they are is that width's
factor. The file knows the processor, torch's version and the number of threads it was measured
with, and counts for those alone.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lcm_scale import checked
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic
from lcm_scale.hardware.allocator import keep_freed_memory
from lcm_scale.hardware.precision import cpu_has_bf16
from lcm_scale.model import dispatch
from lcm_scale.model.attention import Attention
from lcm_scale.model.dispatch import Factors

FORMAT = "lcm-scale-tune/1"
REGIONS = 116
HEADS = {32: 2, 64: 4, 128: 4, 256: 8, 512: 8, 2048: 8}  # width -> heads, as the presets have them
SCANS = {"cpu": 16, "cuda": 64}  # in widths up to 256; fewer in wider ones
BOUNDS = (0.05, 20.0)  # of a factor that can have been measured
SECONDS = 0.4  # for a width, about


@dataclass(frozen=True)
class Machine:
    """For what a measurement counts."""

    processor: str
    torch: str
    threads: int

    @classmethod
    def here(cls, device: str, threads: int) -> Machine:
        """Args: threads: of the CPU; of no matter to a GPU."""
        on_gpu = device == "cuda"
        name = torch.cuda.get_device_name() if on_gpu else processor()
        return cls(name, str(torch.__version__), 0 if on_gpu else threads)


def processor() -> str:
    """What the CPU calls itself, with family and model: one name stands for several
    generations."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {a.strip(): b.strip() for a, _, b in (line.partition(":") for line in lines)}
    numbers = [facts.get(key, "?") for key in ("cpu family", "model")]
    return f"{facts.get('model name', platform.machine())} ({'.'.join(numbers)})"


def file() -> Path:
    """Where it is kept: $XDG_CACHE_HOME/lcm-scale/tune.json, else below ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(given) if given and Path(given).is_absolute() else Path.home() / ".cache"
    return root / "lcm-scale" / "tune.json"


def measure(device: str, say: Callable[[str, int, float], None] | None = None) -> Factors:
    """Of this machine, in some seconds.

    Args: device: ``cpu`` or ``cuda``.   say: told of each width's factor.
    """
    if device == "cpu":
        keep_freed_memory()  # as a run does
    half = device == "cuda" or cpu_has_bf16()
    found: dict[str, dict[int, float]] = {}
    for dtype in (torch.float32, *([torch.bfloat16] if half else [])):
        kind = dispatch.kind(device, dtype)
        for width, heads in HEADS.items():
            value = apart(width, heads, device, dtype)
            found.setdefault(kind, {})[width] = value
            if say is not None:
                say(kind, width, value)
    return found


def even_tokens(B: int, D: int, H: int, device: str, dtype: torch.dtype) -> int:
    """The number of tokens from which on the counts prefer keys and values."""
    for M in range(2, 4 * REGIONS):
        cost = dispatch.costs(B, M, REGIONS, D, H, device, dtype)
        if cost["absorbed"] > cost["projected"]:
            return M
    return 4 * REGIONS


def apart(D: int, H: int, device: str, dtype: torch.dtype) -> float:
    """The factor of a width: absorbed over the other in time, over the same in counts."""
    B = max(4, SCANS[device] * 256 // max(D, 256))
    M = even_tokens(B, D, H, device, dtype)
    other = "flash" if device == "cuda" else "projected"
    generator = torch.Generator().manual_seed(0)
    query, memory = (
        torch.rand(B, n, D, generator=generator).to(device).requires_grad_() for n in (M, REGIONS)
    )
    with torch.random.fork_rng(devices=[]):
        layer = Attention(D, H, 0.1).to(device)
        cost = dispatch.costs(B, M, REGIONS, D, H, device, dtype)
        spent = {form: seconds(layer, form, query, memory, dtype) for form in ("absorbed", other)}
        start = time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            for form in spent:
                spent[form] = min(spent[form], seconds(layer, form, query, memory, dtype))
    return spent["absorbed"] / spent[other] / (cost["absorbed"] / cost["projected"])


def seconds(
    layer: Attention, form: str, query: torch.Tensor, memory: torch.Tensor, dtype: torch.dtype
) -> float:
    """One forward and backward pass: wall time on a GPU and of several threads, else the
    processor's, which other jobs hardly touch."""
    device = query.device.type
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    layer.formulation = form
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = layer(query, memory).float().square().mean()
    loss.backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def store(factors: Factors, device: str, threads: int) -> Path:
    """Keep what was found, beside what was found for the other kind of device.

    Returns: the file.  Raises: InputError where it cannot be written.
    """
    path, here = file(), Machine.here(device, threads)
    try:
        kept = _read(path)
    except InputError:
        kept = {}
    kept[device] = {"machine": asdict(here), "factors": to_json(factors)}
    write_atomic(path, json.dumps({"format": FORMAT, "devices": kept}, indent=1).encode())
    return path


def load(device: str, threads: int) -> tuple[Factors | None, str]:
    """What was measured on such a machine with as many threads.

    Returns: the factors, None where there are none that count; and in words where they come from,
        or why they do not count ('' where nothing was ever measured).
    """
    path = file()
    if not path.is_file():
        return None, ""
    try:
        found = _read(path).get(device)
        if found is None:
            return None, ""
        factors = from_json(found.get("factors"))
        then = checked.members(found.get("machine"), "machine")
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return None, f"{path} is not used ({reason}); lcm-scale tune measures anew"
    now = asdict(Machine.here(device, threads))
    other = [f"{key} {then.get(key)}, here {now[key]}" for key in now if then.get(key) != now[key]]
    if other:
        return None, f"{path} is not used ({'; '.join(other)}); lcm-scale tune measures anew"
    return factors, f"measured on this machine, {path}"


def to_json(factors: Factors) -> dict[str, dict[str, float]]:
    return {
        kind: {str(width): round(value, 4) for width, value in of_kind.items()}
        for kind, of_kind in factors.items()
    }


def from_json(value: object) -> Factors:
    """Factors out of a file.  Raises: InputError where they are none."""
    found: dict[str, dict[int, float]] = {}
    for kind, of_kind in checked.members(value, "factors").items():
        found[kind] = {}
        for width, number in checked.members(of_kind, f"factors of {kind}").items():
            if not (width.isdecimal() and 0 < int(width) < 2**20):
                raise InputError(f"factors of {kind}: {width} is no width")
            value_of = checked.number(number, f"factor of width {width}")
            if not BOUNDS[0] <= value_of <= BOUNDS[1]:
                raise InputError(
                    f"factor of width {width}: {value_of:g} is not between {BOUNDS[0]:g} and "
                    f"{BOUNDS[1]:g}"
                )
            found[kind][int(width)] = value_of
    return found


def _read(path: Path) -> dict[str, Any]:
    """Device -> what was measured.  Raises: InputError."""
    data = checked.read_object(path, largest=1 << 20)
    if data.get("format") != FORMAT:
        raise InputError(f"{path}: not of this version ({FORMAT})")
    devices = checked.members(data.get("devices"), "devices")
    return {name: checked.members(found, name) for name, found in devices.items()}
