"""`lcm-scale cost`: argument parsing and printing for costs and placements, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lcm_scale.cli.sweep import print_table
from lcm_scale.errors import InputError

if TYPE_CHECKING:
    from lcm_scale.config import BudgetConfig, Recipe
    from lcm_scale.cost.count import Cost
    from lcm_scale.cost.placement import Placement

MACHINES = ("nodes", "gpus_per_node", "gpu", "price", "mfu")  # beside the recipe's keys
EXAMPLE = "Example: lcm-scale cost nodes=8 gpus_per_node=8 gpu=H100 model=1.2b data.scans=10000"


def cost(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="RECIPE|KEY=VALUE", help="A recipe, overrides, or both."),
    ] = None,
    write: Annotated[
        Path, typer.Option(help="Where the recommended recipe goes, where machines are named.")
    ] = Path("runs/planned.yaml"),
) -> None:
    """Count parameters, FLOPs a step and memory a device.

    With nodes=, gpus_per_node=, gpu=, price= or mfu= it also compares strategies on such machines,
    recommends the cheapest that fits, and writes its recipe. gpu=yours measures this machine.
    """
    from lcm_scale import config

    given = arguments or []
    paths = [a for a in given if "=" not in a]
    machines = dict(a.split("=", 1) for a in given if a.split("=")[0] in MACHINES)
    overrides = [a for a in given if "=" in a and a.split("=")[0] not in MACHINES]
    if len(paths) > 1:
        raise InputError(
            f"cost takes one recipe, not {' and '.join(paths)}; overrides are key=value"
        )
    recipe = config.load(config.Recipe, paths[0] if paths else None, overrides)
    from lcm_scale.cost.count import cost as count

    counted = count(recipe)
    if not machines:
        _print_cost(counted, recipe)
        print(f"next: {' '.join(['lcm-scale pretrain', *(paths or ['RECIPE']), *overrides])}")
        return
    from lcm_scale.cost.placement import placements, recipe_for, recommended
    from lcm_scale.files import replacing

    nodes, each, budget = _machines(machines)
    ways = placements(recipe, counted, nodes, each, budget)
    advice = recommended(ways, budget, nodes * each)
    _print_cost(counted, recipe)
    _print_placements(ways, nodes, each, budget, counted.model.width)
    with replacing(write, "name another place with --write") as aside:
        aside.write_text(config.dump(recipe_for(recipe, ways[0], each)))
    data = "" if recipe.data.sets else " data=SET"
    print(f"recipe: {write}\nnext: lcm-scale pretrain {write}{data}")
    print("\n".join(advice))


def _machines(words: dict[str, str]) -> tuple[int, int, BudgetConfig]:
    """Nodes, GPUs of each, and what they are.  Raises: InputError."""
    from lcm_scale.config import BudgetConfig

    usual = BudgetConfig()
    try:
        nodes, each = int(words.get("nodes", 1)), int(words.get("gpus_per_node", 1))
        price, mfu = float(words.get("price", usual.price)), float(words.get("mfu", usual.mfu))
    except ValueError as error:
        raise InputError(f"nodes, gpus_per_node, price and mfu are numbers: {error}") from error
    if not (price >= 0 and 0 < mfu <= 1):
        raise InputError(
            f"price={price:g} mfu={mfu:g}: price is at least 0, mfu above 0 and at most 1"
        )
    return nodes, each, BudgetConfig(gpu=words.get("gpu", usual.gpu), price=price, mfu=mfu)


def _print_cost(result: Cost, recipe: Recipe) -> None:
    model = result.model
    counted = ", ".join(result.sets) if result.sets else "no data named: 4 classes, sex, age"
    print(
        f"model {recipe.model.preset}: {result.parameters:,} parameters "
        f"({model.layers} layers of width {model.width}; {model.n_regions} regions; {model.n_tokens} tokens, {counted})"
    )
    flops = [
        [
            name,
            _si(result.scan_flops[name], "FLOP"),
            _si(result.step_flops[name], "FLOP"),
            "runs" if name == result.formulation else "",
        ]
        for name in result.step_flops
    ]
    print_table(
        "FLOPs",
        ("cross-attention", "forward, a scan", f"a step of {result.global_batch} scans", ""),
        flops,
    )
    parts = [
        [
            row.precision,
            *(
                _si(b, "B")
                for b in (row.weights, row.gradients, row.optimiser, row.activations, row.total)
            ),
        ]
        for row in result.memory
    ]
    title = f"memory on one device, {result.device_batch} scans on it"
    print_table(
        title, ("precision", "weights", "gradients", "optimiser", "activations", "total"), parts
    )
    if result.steps is not None:
        whole = _si(result.steps * result.step_flops[result.formulation], "FLOP")
        print(f"the run: {result.scans:,} scans, {result.steps:,} steps, {whole}")


def _print_placements(
    ways: list[Placement], nodes: int, each: int, budget: BudgetConfig, width: int
) -> None:
    from lcm_scale.hardware.cards import card_of

    columns = (
        "GPUs",
        "strategy",
        "to fit",
        "memory",
        "sent a step",
        "step",
        "hours",
        "GPU hours",
        budget.currency,
        "",
    )
    rows = [
        [
            str(way.cards),
            way.strategy,
            " + ".join(["layers again"] * way.layers_again + ["offload"] * way.offload),
            _si(way.memory, "B"),
            _si(way.sent, "B"),
            f"{1000 * way.step:.0f} ms",
            f"{way.hours:.2g}",
            f"{way.card_hours:.2g}",
            f"{way.card_hours * budget.price:.2f}",
            "" if way.fits else "does not fit",
        ]
        for way in ways
    ]
    card = card_of(budget.gpu)
    pace = f"{_si(card.peak, 'FLOP')}/s measured" if card.measured else f"{budget.mfu:.0%} MFU"
    title = (
        f"{nodes} x {each} {budget.gpu}, {card.precision_for(width)}, {pace}, nothing overlapped"
    )
    print_table(title, columns, rows)


def _si(value: float, unit: str) -> str:
    """Three digits with a decimal prefix: 20.6 GB."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 1000 or prefix == "E":
            break
        value /= 1000
    return f"{value:.3g} {prefix}{unit}"
