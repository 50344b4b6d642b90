"""One command for a GPU: the table of benchmarks/model.py in fp32 and bf16 at batch 128 for 147m
and 1b, against the goals.

    python benchmarks/gpu.py     # into benchmarks/results/, a file a size, which names the card
    # The same code on a CPU, small, in seconds: tests run it, so that a lent GPU finds no slip.
    python benchmarks/gpu.py --device cpu --quick --out FOLDER

Beside the ratios of `model.py` it gives the published model's fp32 eager step over ours in bf16,
and our MFU: useful FLOPs (nothing made again in backward counts) against the card's dense bf16
peak.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from lcm_scale.hardware.cards import peak_flops
from model import REGIONS, RESULTS, parser, run  # benchmarks/model.py

GOAL_FASTER = 10.0  # our bf16 step against the published model's fp32 eager step, at every M
GOAL_MFU, GOAL_TOKENS, GOAL_BATCH = 0.45, 27, 128
QUICK = {"presets": ["tiny"], "tokens": [7, 27], "batch": 4, "repeats": 1}
FULL = {"presets": ["147m", "1b"], "tokens": [7, 27, 116], "batch": GOAL_BATCH, "repeats": 5}


def asked() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    options.add_argument("--quick", action="store_true", help="a small model, one round")
    options.add_argument("--presets", nargs="+")
    options.add_argument("--tokens", type=int, nargs="+")
    options.add_argument("--batch", type=int)
    options.add_argument("--repeats", type=int)
    options.add_argument("--out", type=Path, default=RESULTS)
    arguments = options.parse_args()
    for name, value in (QUICK if arguments.quick else FULL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def add_mfu(row: dict[str, Any], peak: float) -> str:
    """The row's MFU, and both goals in words."""
    row["mfu"] = row["useful_flops"] / row["ours"]["step, adam_s"] / peak
    faster = row["times_faster"]["step, published in fp32"]
    said = (
        f"{faster:.2f} times the published fp32 step (goal {GOAL_FASTER:g}), MFU {row['mfu']:.2f}"
    )
    if (row["tokens"], row["batch"]) == (GOAL_TOKENS, GOAL_BATCH):
        said += f" (goal {GOAL_MFU})"
    return said


def main() -> None:
    arguments = asked()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here: --device cpu --quick tries the code, benchmarks/model.py measures")
    device = torch.device(arguments.device, 0 if arguments.device == "cuda" else None)
    peak = peak_flops(device, torch.bfloat16)
    for preset in arguments.presets:
        words = ["--preset", preset, "--device", arguments.device, "--out", str(arguments.out)]
        words += ["--batch", str(arguments.batch), "--repeats", str(arguments.repeats)]
        words += ["--tokens", *map(str, arguments.tokens)]
        words += ["--one-process"] if arguments.quick else []
        path = run(parser().parse_args(words))
        result = json.loads(path.read_text(encoding="utf-8"))
        for row in result["rows"]:
            if row["precision"] == "bf16":
                place = f"{preset}, M={row['tokens']} of {REGIONS} regions, batch {row['batch']}"
                print(f"{place}: {add_mfu(row, peak)}")
        result["bf16_peak_flops"] = peak
        result["command"] = "python benchmarks/gpu.py " + " ".join(sys.argv[1:])
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
