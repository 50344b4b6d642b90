"""`lcm-scale cost`: argument parsing and printing for costs and placements, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lcm_scale.cli.sweep import print_table
from lcm_scale.errors import InputError
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.config import BudgetConfig, Recipe
    from lcm_scale.cost.count import Cost
    from lcm_scale.cost.placement import Placement, Way

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
    recommends the cheapest that fits, and writes its recipe. gpu=yours measures this machine. The
    line `plan:` is what trainer.strategy=auto takes on all of the cards, here or there.
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
        print(_plan_here(recipe, counted))
        print(f"next: {' '.join(['lcm-scale pretrain', *(paths or ['RECIPE']), *overrides])}")
        return
    from lcm_scale.cost.choice import said
    from lcm_scale.cost.count import job_of
    from lcm_scale.cost.placement import placements, recipe_for, recommended
    from lcm_scale.files import replacing
    from lcm_scale.hardware.cards import card_of
    from lcm_scale.hardware.machine import Machine

    nodes, per_node, budget = _machines(machines)
    job, card = job_of(recipe, counted), card_of(budget.gpu)
    ways = placements(job, card, nodes, per_node, budget)
    advice = recommended(ways, budget.gpu, nodes * per_node, budget)
    _print_cost(counted, recipe)
    pace = f"{_si(card.peak, 'FLOP')}/s measured" if card.measured else f"{budget.mfu:.0%} MFU"
    title = (
        f"{nodes} x {per_node} {budget.gpu}, {job.precision_on(card)}, {pace}, nothing overlapped"
    )
    _print_placements(ways, title, budget)
    print(said(job, Machine(card, budget.gpu, nodes, per_node), recipe.trainer))
    with replacing(write, "name another place with --write") as aside:
        aside.write_text(config.dump(recipe_for(recipe, ways[0].way)))
    data = "" if recipe.data.sets else " data=SET"
    print(f"recipe: {write}\nnext: lcm-scale pretrain {write}{data}")
    print("\n".join(advice))


def _plan_here(recipe: Recipe, counted: Cost) -> str:
    """What a run of the recipe would do on this machine."""
    from lcm_scale.cost.choice import said
    from lcm_scale.cost.count import job_for
    from lcm_scale.hardware.machine import machine_here

    try:
        machine = machine_here(recipe.trainer)
    except InputError as error:
        return f"plan: {error}"
    return said(job_for(recipe, counted.model), machine, recipe.trainer)


def _machines(words: dict[str, str]) -> tuple[int, int, BudgetConfig]:
    """Nodes, GPUs of each, and what they are.  Raises: InputError."""
    from lcm_scale.config import BudgetConfig

    usual = BudgetConfig()
    try:
        nodes, per_node = int(words.get("nodes", 1)), int(words.get("gpus_per_node", 1))
        price, mfu = float(words.get("price", usual.price)), float(words.get("mfu", usual.mfu))
    except ValueError as error:
        raise InputError(f"nodes, gpus_per_node, price and mfu are numbers: {error}") from error
    if not (price >= 0 and 0 < mfu <= 1):
        raise InputError(
            f"price={price:g} mfu={mfu:g}: price is at least 0, mfu above 0 and at most 1"
        )
    return nodes, per_node, BudgetConfig(gpu=words.get("gpu", usual.gpu), price=price, mfu=mfu)


def _print_cost(result: Cost, recipe: Recipe) -> None:
    model = result.model
    counted = ", ".join(result.sets) if result.sets else "no data named: 4 classes, sex, age"
    print(
        f"model {recipe.model.preset}: {result.parameters:,} parameters "
        f"({model.layers} layers of width {model.width}; {model.n_regions} regions; "
        f"{model.n_tokens} tokens, {counted})"
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
    title = f"memory on one device, {result.device_batch} scans on it at a time"
    print_table(
        title, ("precision", "weights", "gradients", "optimiser", "activations", "total"), parts
    )
    if result.steps is not None:
        whole = _si(result.steps * result.step_flops[result.formulation], "FLOP")
        print(f"the run: {result.scans:,} scans, {result.steps:,} steps, {whole}")
    if result.scans is not None and recipe.model.people_memory != "none":
        from lcm_scale.linear.size import sentence

        print(sentence(result.scans, model.n_regions))


def _print_placements(ways: list[Placement], title: str, budget: BudgetConfig) -> None:
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
            str(found.way.cards),
            found.way.strategy,
            " + ".join(_to_fit(found.way)),
            _si(found.memory, "B"),
            _si(found.sent, "B"),
            f"{1000 * found.step:.0f} ms",
            f"{found.hours:.2g}",
            f"{found.card_hours:.2g}",
            f"{found.card_hours * budget.price:.2f}",
            _remark(found),
        ]
        for found in ways
    ]
    print_table(title, columns, rows)


def _to_fit(way: Way) -> list[str]:
    """What is done so that it fits, in words short enough for a column."""
    return [
        *["layers again"] * way.checkpoint_layers,
        *["offload"] * way.offload,
        *[f"accumulate {way.accumulate}"] * (way.accumulate > 1),
    ]


def _remark(found: Placement) -> str:
    if not found.fits:
        return "does not fit"
    return "" if found.exact else f"another model: batch norm over {found.normalised}"


def _si(value: float, unit: str) -> str:
    """Three digits with a decimal prefix: 20.6 GB."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 1000 or prefix == "E":
            break
        value /= 1000
    return f"{value:.3g} {prefix}{unit}"
