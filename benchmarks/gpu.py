"""One command for a GPU: the table of benchmarks/model.py in bf16 at batch 128 for 147m and 1b.

    python benchmarks/gpu.py     # into benchmarks/results/, a file a size, which names the card

Beside the ratios of `model.py` it gives the published model's fp32 eager step over ours in bf16,
and our MFU: useful FLOPs (nothing made again in backward counts) against the card's dense bf16
peak. Goals: 10 times, and 45 % at M = 27.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from lcm_scale.hardware.cards import peak_flops
from model import REGIONS, RESULTS, parser, run  # benchmarks/model.py


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--presets", nargs="+", default=["147m", "1b"])
    options.add_argument("--tokens", nargs="+", default=["7", "27", "116"])
    options.add_argument("--batch", default="128")
    options.add_argument("--out", type=Path, default=RESULTS)
    arguments = options.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no GPU here: benchmarks/model.py measures CPUs")
    peak = peak_flops(torch.device("cuda", torch.cuda.current_device()), torch.bfloat16)
    for preset in arguments.presets:
        words = [
            "--preset",
            preset,
            "--tokens",
            *arguments.tokens,
            "--batch",
            arguments.batch,
            "--device",
            "cuda",
            "--out",
            str(arguments.out),
        ]
        path = run(parser().parse_args(words))
        result = json.loads(path.read_text(encoding="utf-8"))
        for row in result["rows"]:
            if row["precision"] == "bf16":
                row["mfu"] = row["useful_flops"] / row["ours"]["step, adam_s"] / peak
                print(
                    f"{preset} M={row['tokens']} of {REGIONS} regions: {row['times_faster']}, MFU "
                    f"{row['mfu']:.2f}"
                )
        result["bf16_peak_flops"] = peak
        result["command"] = "python benchmarks/gpu.py " + " ".join(sys.argv[1:])
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
