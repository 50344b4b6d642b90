"""`lcm-scale <verb>`: the verbs by name, and what becomes of their errors.

Exit codes: 0 done, 2 the user's input is wrong (one line on stderr, from one rank), 75 stopped by a
signal with a good checkpoint, 1 a bug (with its traceback). Verbs import what they need when they
run, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from lcm_scale import __version__
from lcm_scale.cli import (
    ablate,
    compare,
    cost,
    data,
    explain,
    fetch,
    models,
    new,
    predict,
    recipes,
    sweep,
    train,
    tune,
    watch,
)
from lcm_scale.errors import Elsewhere, InputError, Stopped
from lcm_scale.ranks import outlive_first
from lcm_scale.terminal import one_line, print

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, finetune and honestly evaluate the Large Connectome Model.",
    epilog="Example: lcm-scale cost model=1b",
)
app.add_typer(models.import_app, name="import")
app.add_typer(models.export_app, name="export")
app.add_typer(sweep.app, name="sweep")
app.add_typer(recipes.app, name="recipes")


def main() -> None:
    """The console script."""
    try:
        app(prog_name="lcm-scale")
    except Elsewhere:
        outlive_first()
        _leave(2)
    except InputError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        _leave(2)
    except Stopped as stop:
        print(f"{stop}; the same command goes on", file=sys.stderr)
        outlive_first()
        _leave(75)


def _leave(code: int) -> None:
    """Exit with this code. Where a process group is still open its threads may wait for a rank that
    has gone, and C++ would abort while it takes them down: the code would be lost."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(f"lcm-scale {__version__}")
        raise typer.Exit


# By the order in which a new user meets them.
app.command(epilog="Example: lcm-scale new raw/mylab --name mylab")(new.new)
app.command(epilog="Example: lcm-scale fetch ds005237 --people 20 --dry-run")(fetch.fetch)
app.command(epilog="Example: lcm-scale shard recipes/data/demo_pretrain.yaml shards_dir=shards")(
    data.shard
)
app.command(epilog="Example: lcm-scale verify shards/demo-pretrain")(data.verify)
app.command(epilog="Example: lcm-scale repair shards/demo-pretrain")(data.repair)
app.command(epilog="Example: lcm-scale inspect shards/demo-pretrain")(data.inspect)
app.command(epilog="Example: lcm-scale pretrain recipes/demo.yaml trainer.max_steps=3")(
    train.pretrain
)
app.command(
    epilog="Example: lcm-scale finetune recipes/demo_finetune.yaml init_from=runs/demo-pretrain"
)(train.finetune)
app.command(epilog="Example: lcm-scale evaluate recipes/demo_finetune.yaml evaluate.folds=5")(
    train.evaluate
)
app.command(epilog="Example: lcm-scale watch runs/")(watch.watch)
app.command(epilog="Example: lcm-scale predict runs/demo raw/new-scans -o predictions.csv")(
    predict.predict
)
app.command(epilog="Example: lcm-scale explain runs/demo --targets diagnosis")(explain.explain)
app.command(epilog="Example: lcm-scale compare runs/demo runs/demo-scratch -o runs/compared")(
    compare.compare
)
app.command(epilog="Example: lcm-scale ablate recipes/ablation.yaml seeds=[0]")(ablate.ablate)
app.command(epilog=cost.EXAMPLE)(cost.cost)
app.command(epilog="Example: lcm-scale doctor recipes/pretrain_1b.yaml data=demo-pretrain")(
    train.doctor
)
app.command(epilog="Example: lcm-scale tune --threads 1")(tune.tune)
