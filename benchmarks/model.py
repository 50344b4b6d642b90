"""Speed and memory of our model beside the published one, alternating in one run; JSON and a
picture.

    # The 147m stack at batch 16 in both precisions, into benchmarks/results/, a file a processor:
    python benchmarks/model.py
    python benchmarks/model.py --tokens 7 --repeats 3 --out FOLDER

Two sides: `published` (official_model.py: nn.MultiheadAttention, torch's default Adam and its fused
one) and `ours` (the formulation that `auto` takes, our optimiser). A round does each once, in turn,
so that what else the machine does meets both; a figure is the median of the rounds. With one
thread, ratios are of processor time, which others' load hardly touches. Kept activations are what
autograd saves in a forward pass, peak what was allocated above weights and gradients.

Each row says what is physically left to gain on this processor (bound.py): the bound of our step,
our share of it, and the ratio of the two models' counted FLOPs. The machine's rates are the best of
those measured before and after the row's rounds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bound as physical
import torch
from official_model import OfficialModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lcm_scale.config import ModelConfig
from lcm_scale.hardware.allocator import keep_freed_memory
from lcm_scale.model.flops import formulation_of, once_flops, training_flops
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import PRESETS, LCMConfig, resolve
from lcm_scale.model.products import ONEDNN
from lcm_scale.training.optimizer import TwoStage

REGIONS = 116
RESULTS = Path(__file__).parent / "results"


@dataclass
class Side:
    """One implementation under one precision, with one optimiser or more, and its times by part of
    a step."""

    name: str
    model: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    precision: str
    wall: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)

    def forward(self, fc: Tensor) -> Tensor:
        device = fc.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.model(fc)

    def evaluate(self, fc: Tensor) -> None:
        self.model.eval()
        with torch.no_grad():
            self.forward(fc)

    def differentiate(self, fc: Tensor) -> None:
        self.model.train()
        self.forward(fc).float().mean(0).square().mean().backward()

    def time(self, what: str, work: Callable[[], Any], fc: Tensor) -> None:
        synchronise(fc)
        wall, processor = time.perf_counter(), time.process_time()
        work()
        synchronise(fc)
        self.wall.setdefault(what, []).append(time.perf_counter() - wall)
        self.processor.setdefault(what, []).append(time.process_time() - processor)

    def round(self, fc: Tensor) -> None:
        """One evaluation, one forward and backward, one step of each optimiser on those
        gradients."""
        self.time("forward", lambda: self.evaluate(fc), fc)
        self.time("gradients", lambda: self.differentiate(fc), fc)
        for name, optimizer in self.optimizers.items():
            self.time(name, optimizer.step, fc)
        self.model.zero_grad(set_to_none=True)

    def figures(self) -> dict[str, float]:
        """Medians over the rounds; a whole step is gradients and optimiser."""
        result = {}
        for suffix, times in (("_s", self.wall), ("_processor_s", self.processor)):
            middle = {what: statistics.median(values) for what, values in times.items()}
            result |= {f"{what}{suffix}": value for what, value in middle.items()}
            result |= {
                f"step, {name}{suffix}": middle["gradients"] + middle[name]
                for name in self.optimizers
            }
        return result


def synchronise(fc: Tensor) -> None:
    if fc.device.type == "cuda":
        torch.cuda.synchronize()


def config_of(preset: str, tokens: int) -> LCMConfig:
    return resolve(ModelConfig(preset=preset), REGIONS, (tokens,))


def sides(preset: str, tokens: int, precision: str, device: str) -> list[Side]:
    torch.manual_seed(0)
    config = config_of(preset, tokens)
    shape = (config.layers, REGIONS, config.width, config.heads, config.ffn, config.dropout)
    with torch.device(device):
        ours, official = LCM(config), OfficialModel(tokens, *shape)
    default, fused = (
        torch.optim.Adam(official.parameters(), lr=1e-5, fused=fused) for fused in (None, True)
    )
    return [
        Side("published", official, {"adam": default, "fused adam": fused}, precision),
        Side("ours", ours, {"adam": TwoStage(ours.parameters(), lr=1e-5)}, precision),
    ]


def kept_bytes(side: Side, fc: Tensor) -> int:
    """Bytes that autograd keeps of one forward pass, weights and their copies aside (they do not
    grow with the batch)."""

    def saved(scans: Tensor) -> int:
        own = {p.untyped_storage().data_ptr() for p in side.model.parameters()}
        kept: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage().data_ptr() not in own:
                kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            side.model.train()
            side.forward(scans)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

    half = len(fc) // 2
    return (saved(fc) - saved(fc[:half])) * len(fc) // (len(fc) - half)


def peak_bytes(side: Side, fc: Tensor) -> int:
    """The most that was allocated at once in forward and backward above weights, gradients and
    optimiser state."""
    for parameter in side.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if fc.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        side.differentiate(fc)
        side.model.zero_grad(set_to_none=True)
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as profile:
        side.differentiate(fc)
    side.model.zero_grad(set_to_none=True)
    now = most = 0
    events = (
        event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"
    )
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def counted_flops(side: Side, fc: Tensor) -> int:
    """FLOPs of the products in one forward and backward, by torch's counter (which does not know
    oneDNN's operator: the published side's alone)."""
    with FlopCounterMode(display=False) as counter:
        side.differentiate(fc)
    side.model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def clock_of(device: str, threads: int) -> str:
    """The suffix of the figures that ratios are of."""
    return "_processor_s" if device == "cpu" and threads == 1 else "_s"


def compare(
    preset: str, tokens: int, batch: int, precision: str, repeats: int, device: str, threads: int
) -> dict[str, Any]:
    if device == "cpu":
        torch.set_num_threads(threads)
        keep_freed_memory()  # for both sides: ours has it in every run on a CPU
    fc = torch.rand(batch, REGIONS, REGIONS, device=device)
    compared = sides(preset, tokens, precision, device)
    config = config_of(preset, tokens)
    clock = clock_of(device, threads)
    seconds = time.process_time if clock == "_processor_s" else time.perf_counter
    machine = physical.measure(config, batch, tokens, precision, device, seconds)
    for number in range(repeats + 1):
        for side in compared:
            side.round(fc)
            if number == 0:  # kernels and optimiser state are made
                side.wall.clear(), side.processor.clear()
    machine = machine.best_of(physical.measure(config, batch, tokens, precision, device, seconds))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    formulation = formulation_of(config, tokens, batch, device, dtype)
    row: dict[str, Any] = {
        "tokens": tokens,
        "precision": precision,
        "batch": batch,
        "formulation": formulation,
        "useful_flops": batch
        * training_flops(config, formulation, tokens, False, "all", device, dtype),
    }
    published, ours = compared
    run_flops = batch * training_flops(config, formulation, tokens, True, "all", device, dtype)
    run_flops += once_flops(config, tokens, "all", device, dtype)
    row["flop_ratio"] = round(counted_flops(published, fc) / run_flops, 3)
    times = ours.processor if clock == "_processor_s" else ours.wall
    row["bound"] = physical.bound(
        machine,
        run_flops,
        sum(p.numel() for p in ours.model.parameters()),
        min(times["adam"]),
        ours.figures()[f"step, adam{clock}"],
    )
    for side in compared:
        memory = {"kept_mb": kept_bytes(side, fc) / 1e6, "peak_mb": peak_bytes(side, fc) / 1e6}
        row[side.name] = {
            key: float(f"{value:.5g}") for key, value in (side.figures() | memory).items()
        }
    return row


def add_ratios(rows: list[dict[str, Any]], clock: str) -> None:
    """Published over ours, in the row's precision; and published fp32 over ours in each
    precision."""
    fp32 = {row["tokens"]: row["published"] for row in rows if row["precision"] == "fp32"}
    for row in rows:
        theirs, ours = row["published"], row["ours"]
        step = ours[f"step, adam{clock}"]
        row["times_faster"] = {
            "forward": theirs[f"forward{clock}"] / ours[f"forward{clock}"],
            "step": theirs[f"step, adam{clock}"] / step,
            "step, published with fused adam": theirs[f"step, fused adam{clock}"] / step,
        }
        if row["tokens"] in fp32:
            row["times_faster"]["step, published in fp32"] = (
                fp32[row["tokens"]][f"step, adam{clock}"] / step
            )
        row["times_faster"] = {
            key: float(f"{value:.3g}") for key, value in row["times_faster"].items()
        }
        row["memory_share"] = {
            key: round(ours[f"{key}_mb"] / theirs[f"{key}_mb"], 3) for key in ("kept", "peak")
        }


def draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for precision, marker in (("fp32", "o"), ("bf16", "s")):
        rows = [row for row in result["rows"] if row["precision"] == precision]
        if rows:
            tokens = [row["tokens"] for row in rows]
            left.plot(
                tokens,
                [row["times_faster"]["step"] for row in rows],
                marker=marker,
                label=f"{precision} step",
            )
            left.plot(
                tokens,
                [row["times_faster"]["forward"] for row in rows],
                marker=marker,
                ls=":",
                label=f"{precision} forward",
            )
            right.plot(
                tokens,
                [row["memory_share"]["kept"] for row in rows],
                marker=marker,
                label=f"{precision} kept activations",
            )
    left.axhline(1, color="grey", lw=0.8)
    left.set(
        xlabel="BEI tokens (M)",
        ylabel="times faster than published, same precision",
        title=result["device"],
    )
    right.set(
        xlabel="BEI tokens (M)",
        ylabel="share of the published model's",
        ylim=(0, 1.05),
        title="memory",
    )
    for axis in (left, right):
        axis.legend(frameon=False)
    figure.savefig(path, dpi=120)


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in facts.get("flags", "")]
    return (
        f"{facts.get('model name', 'CPU')} (family {facts.get('cpu family')}, "
        f"{', '.join(flags) or 'no bf16'})"
    )


def apart(work: tuple[Any, ...]) -> dict[str, Any]:
    """A row in a process of its own: what one row's memory was cut into does not fit the next
    one's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(compare, *work).result()


def run(
    arguments: argparse.Namespace,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> Path:
    clock = clock_of(arguments.device, arguments.threads)
    result: dict[str, Any] = {
        "device": device_name(arguments.device),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "onednn_fp32": ONEDNN,
        "preset": arguments.preset,
        "repeats": arguments.repeats,
        "ratios_of": "processor time" if clock == "_processor_s" else "wall time",
        "load_before": os.getloadavg()[0],
        "command": "python benchmarks/model.py " + " ".join(sys.argv[1:]),
        "rows": [],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    processor = re.sub(r"[^a-z0-9]+", "-", result["device"].partition(",")[0].lower()).strip("-")
    path = arguments.out / f"model_{arguments.preset}_{processor}_{arguments.threads}threads.json"
    for precision in arguments.precision:
        for tokens in arguments.tokens:
            work = (
                arguments.preset,
                tokens,
                arguments.batch,
                precision,
                arguments.repeats,
                arguments.device,
                arguments.threads,
            )
            row = compare(*work) if arguments.one_process else apart(work)
            result["rows"].append(row)
            add_ratios(result["rows"], clock)
            step = row["times_faster"]["step"]
            say(
                f"{precision} M={tokens}: {step:.2f} times faster, "
                f"{row['memory_share']['kept']:.2f} of the activations; {physical.sentence(row)}"
            )
            result["load_after"] = os.getloadavg()[0]
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, path.with_suffix(".png"))
    return path


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--preset", default="147m", choices=list(PRESETS))
    options.add_argument("--tokens", type=int, nargs="+", default=[7, 14, 27, 50, 80, 116])
    options.add_argument(
        "--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"]
    )
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options.add_argument("--one-process", action="store_true", help="quicker, memory less exact")
    options.add_argument("--out", type=Path, default=RESULTS)
    return options


if __name__ == "__main__":
    print(run(parser().parse_args()))
