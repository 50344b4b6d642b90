"""How many kernels a training step launches on a GPU, by model size and formulation, counted without
one; and what they cost beside the step's products.

    python benchmarks/launches.py     # into benchmarks/results/launches.json, in seconds
    python benchmarks/launches.py --presets 147m --tokens 7 27 --batch 128

Counted are eager launches, as torch dispatches them (fake_gpu.py): matrix products, elementwise
kernels, reductions, copies on the device. What a library adds inside one operation (a product cut
along its inner dimension, say) is not seen, so the counts are the least there can be. Beside them:
the host's time at 5 microseconds a launch, and the step's products at an H100's dense bf16 peak.
Where the first is longer, the GPU waits for the host whatever its kernels do.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import fake_gpu  # benchmarks/fake_gpu.py
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lcm_scale.config import ModelConfig
from lcm_scale.config.run import FORMULATIONS
from lcm_scale.hardware.cards import CARDS
from lcm_scale.model.flops import once_flops, training_flops
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import PRESETS, LCMConfig, resolve
from lcm_scale.objectives import TargetLoss, losses, read
from lcm_scale.training.optimizer import TwoStage
from lcm_scale.vocabulary import Target
from model import REGIONS, RESULTS  # benchmarks/model.py

LAUNCH_S = 5e-6  # of the host, a kernel: what eager torch needs on a current server
CARD = "H100"
PARTS = ("forward", "backward", "optimiser")


def terms_of(tokens: int) -> list[TargetLoss]:
    """A group of classes, sex and age, as the published runs have them."""
    classes = tuple(f"class {number}" for number in range(tokens - 3))
    return [
        TargetLoss(Target("diagnosis", "group", classes)),
        TargetLoss(Target("sex", "sex", ("M", "F"))),
        TargetLoss(Target("age", "scalar", ("age",)), 1e-4),
    ]


def config_of(preset: str, formulation: str, tokens: int) -> LCMConfig:
    return resolve(ModelConfig(preset=preset, attention=formulation), REGIONS, (tokens - 3, 2, 1))


def step_counts(config: LCMConfig, precision: str, batch: int) -> dict[str, Any]:
    """Launches of one step whose optimiser state is there, by part and by operation: adaptive
    training with the adaptive readout."""
    with torch.device("meta"):
        model = LCM(config)
    mode, recorder = FakeTensorMode(), fake_gpu.Recorder()
    fake_gpu.move(model, mode)
    terms = terms_of(config.n_tokens)
    optimizer = TwoStage(model.parameters())
    with mode, recorder:
        fc = torch.rand(batch, REGIONS, REGIONS, device=fake_gpu.NAME)
        labels, weights = (torch.zeros(batch, len(terms), device=fake_gpu.NAME) for _ in range(2))
        valid = torch.ones(batch, device=fake_gpu.NAME)
        for recorder.part in ("first", "forward"):  # the first makes the optimiser's state
            with torch.autocast(fake_gpu.NAME, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(fc, None, valid)
                values = read(logits, labels, terms, "adaptive")
                loss = losses(values, labels, weights, terms).sum()
            fake_gpu.CASTS.clear()
            if recorder.part == "forward":
                recorder.part = "backward"
            loss.backward()
            if recorder.part == "backward":
                recorder.part = "optimiser"
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    counted = {part: recorder.of(part) for part in PARTS}
    kinds = {
        name: sum(recorder.launches[part, name] for part in PARTS)
        for name in sorted({name for part, name in recorder.launches if part in PARTS})
    }
    most = dict(sorted(kinds.items(), key=lambda item: -item[1])[:8])
    return {**counted, "step": sum(counted.values()), "most": most}


def row_of(
    preset: str, formulation: str, tokens: int, precision: str, batch: int, counts: dict[str, Any]
) -> dict[str, Any]:
    """Counts beside what the products take at the card's peak."""
    config = config_of(preset, formulation, tokens)
    card = CARDS[CARD]
    where = ("cuda", torch.bfloat16 if precision == "bf16" else torch.float32)
    flops = batch * training_flops(config, formulation, tokens, True, "all", *where)
    flops += once_flops(config, tokens, "all", *where)
    peak = card.peak if precision == "bf16" else card.peak_fp32
    assert peak is not None
    return {
        "preset": preset,
        "formulation": formulation,
        "tokens": tokens,
        "precision": precision,
        "batch": batch,
        "launches": counts,
        "host_ms": round(counts["step"] * LAUNCH_S * 1e3, 3),
        "products_at_peak_ms": round(flops / peak * 1e3, 3),
        # from which batch on the products take longer than the launches, at the peak
        "batch_of_balance": round(batch * counts["step"] * LAUNCH_S / (flops / peak)),
    }


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--presets", nargs="+", default=["tiny", "147m", "1b"], choices=PRESETS)
    options.add_argument("--tokens", type=int, nargs="+", default=[7, 27])
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    options.add_argument("--out", type=Path, default=RESULTS)
    arguments = options.parse_args()
    fake_gpu.install()
    rows = []
    for preset, precision, formulation in product(
        arguments.presets, arguments.precision, FORMULATIONS
    ):
        # How many tokens there are is a matter of shapes: no launch depends on it.
        config = config_of(preset, formulation, arguments.tokens[0])
        counts = step_counts(config, precision, arguments.batch)
        for tokens in arguments.tokens:
            row = row_of(preset, formulation, tokens, precision, arguments.batch, counts)
            rows.append(row)
            parts = ", ".join(f"{part} {counts[part]}" for part in PARTS)
            print(
                f"{preset} M={tokens} {precision} {formulation}: {counts['step']} launches "
                f"({parts}), {row['host_ms']} ms of the host, products "
                f"{row['products_at_peak_ms']} ms"
            )
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = {
        "torch": torch.__version__,
        "launch_us": LAUNCH_S * 1e6,
        "card": CARD,
        "command": "python benchmarks/launches.py " + " ".join(sys.argv[1:]),
        "rows": rows,
    }
    path = arguments.out / "launches.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
