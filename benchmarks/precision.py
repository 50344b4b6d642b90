"""Loss curves of what is computed or kept in bf16, beside fp32: the same runs, the same seeds. JSON
and a picture.

    python benchmarks/precision.py recipes/scaling_abide.yaml \\
        model.width=512 model.ffn=512 model.layers=4

Three sides: everything in fp32; products in bf16 (`trainer.precision=bf16-mixed`); averages of the
optimiser in bf16 (`optim.state=bf16`). Seeds are paired: they fix the split, the first weights and
the order, so a difference is the side's.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from lcm_scale.config import Recipe, load
from lcm_scale.training import fit as run
from lcm_scale.training.run_log import epochs_of, read_log
from model import RESULTS, device_name  # benchmarks/model.py

SIDES = {
    "fp32": ("trainer.precision=32-true", "optim.state=fp32"),
    "bf16 products": ("trainer.precision=bf16-mixed", "optim.state=fp32"),
    "bf16 averages": ("trainer.precision=32-true", "optim.state=bf16"),
}


def differences(curves: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    """A side's lowest validation loss less that of fp32, over paired seeds: mean and standard
    error."""
    lowest = {side: [min(curve) for curve in found] for side, found in curves.items()}
    result = {}
    for side in SIDES:
        apart = [mine - other for mine, other in zip(lowest[side], lowest["fp32"], strict=True)]
        error = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else float("nan")
        result[side] = {
            "lowest": statistics.mean(lowest[side]),
            "apart": statistics.mean(apart),
            "error": error,
        }
    return result


def draw(curves: dict[str, list[list[float]]], title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for number, (side, found) in enumerate(curves.items()):
        epochs = range(1, len(found[0]) + 1)
        middle = [statistics.mean(values) for values in zip(*found, strict=True)]
        axis.plot(epochs, middle, color=f"C{number}", ls=("-", "--", ":")[number], lw=2, label=side)
        for curve in found:
            axis.plot(epochs, curve, color=f"C{number}", lw=0.5, alpha=0.35)
    axis.set(xlabel="epoch", ylabel="validation loss", title=f"{title}, {len(found)} seeds")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("recipe", type=Path)
    options.add_argument("overrides", nargs="*", default=[])
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--title", default="")
    options.add_argument("--out", type=Path, default=RESULTS)
    arguments = options.parse_args()
    curves: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, arguments.seeds + 1):
            for side, words in SIDES.items():
                where = (
                    f"runs_dir={folder}",
                    f"name={side.replace(' ', '-')}-{seed}",
                    f"seed={seed}",
                )
                recipe = load(Recipe, arguments.recipe, [*arguments.overrides, *where, *words])
                rows = epochs_of(read_log(run.pretrain(recipe) / "log.jsonl"))
                curves[side].append([row["val_loss"] for row in rows])
                print(f"{side}, seed {seed}: {min(curves[side][-1]):.4f}", flush=True)
    result: dict[str, Any] = {
        "device": device_name("cpu"),
        "torch": torch.__version__,
        "recipe": arguments.recipe.name,
        "overrides": [
            word for word in arguments.overrides if not word.startswith("data.shards_dir=")
        ],
        "validation_loss": curves,
        "lowest": differences(curves),
    }
    path = arguments.out / f"precision_{arguments.recipe.stem}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(curves, arguments.title or arguments.recipe.stem, path.with_suffix(".png"))
    print(json.dumps(result["lowest"], indent=1))


if __name__ == "__main__":
    main()
