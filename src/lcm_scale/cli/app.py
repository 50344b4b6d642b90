"""`lcm-scale <verb>`: argument parsing and printing, nothing else.

Exit codes: 0 done, 2 the user's input is wrong (one line on stderr), 75 stopped by a signal with a
good checkpoint, 1 a bug (with its traceback). Verbs import what they need when they run, so that
`--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lcm_scale import __version__
from lcm_scale.cli import cost as cli_cost
from lcm_scale.cli import models as cli_models
from lcm_scale.cli import sweep as cli_sweep
from lcm_scale.errors import InputError, Stopped
from lcm_scale.ranks import is_first

if TYPE_CHECKING:
    from lcm_scale.config import Recipe
    from lcm_scale.data.manifest import ShardManifest
    from lcm_scale.weights.checkpoints import Checkpoint

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, finetune and honestly evaluate the Large Connectome Model.",
    epilog="Example: lcm-scale cost model=1b",
)

app.add_typer(cli_models.import_app, name="import")
app.add_typer(cli_models.export_app, name="export")
app.add_typer(cli_sweep.app, name="sweep")

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A YAML file, for example recipes/demo.yaml.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="What to change in it, such as trainer.max_steps=3."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the inputs, say what would happen, stop.")
]


def main() -> None:
    """The console script."""
    try:
        app(prog_name="lcm-scale")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        print(f"{stop}; the same command goes on", file=sys.stderr)
        sys.exit(75)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(f"lcm-scale {__version__}")
        raise typer.Exit


@app.command(epilog="Example: lcm-scale shard recipes/data/demo_pretrain.yaml shards_dir=shards")
def shard(recipe: RecipePath, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Turn raw files into a shard set.

    FC matrices and BEI labels go into tars, with a manifest beside them.
    """
    from lcm_scale import config

    composed = config.load(config.ShardRecipe, recipe, overrides or [])
    folder = config.expand(composed.shards_dir) / composed.name
    if dry_run:
        print(config.dump(composed), end="")
        print(f"would write {folder}")
        return
    from lcm_scale.data.shards import write_shards

    _print_manifest(write_shards(composed), folder)
    _next(f"lcm-scale verify {folder}")


@app.command(epilog="Example: lcm-scale verify shards/demo-pretrain")
def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with manifest.json.")],
) -> None:
    """Check every byte of a shard set against its manifest."""
    from lcm_scale.data.verify import verify_shards

    manifest = verify_shards(folder)
    print(
        f"{folder}: {manifest.scans} scans in {len(manifest.shards)} tar(s) are what the manifest says"
    )
    _next(f"lcm-scale inspect {folder}")


@app.command(epilog="Example: lcm-scale inspect shards/demo-pretrain")
def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A shard folder, a run folder or a checkpoint.")
    ],
) -> None:
    """Say what a shard set, a run or a checkpoint holds."""
    if not path.exists():
        raise InputError(
            f"{path}: no such file or folder; name a shard folder, a run folder or a .ckpt file"
        )
    if (path / "recipe.yaml").is_file():
        _print_run(path)
        _next(f"lcm-scale evaluate {path / 'recipe.yaml'}")
    elif path.is_file() or (path / "checkpoints").is_dir():
        from lcm_scale.weights.checkpoints import load

        _print_checkpoint(load(path))
        _next(f"lcm-scale finetune RECIPE init_from={path}")
    else:
        from lcm_scale.data.manifest import read_manifest

        manifest = read_manifest(path)
        _print_manifest(manifest, path)
        _next(f"lcm-scale cost data={path}")


@app.command(epilog="Example: lcm-scale pretrain recipes/demo.yaml trainer.max_steps=3")
def pretrain(recipe: RecipePath, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Pretrain a model on shard sets.

    A run that was stopped goes on where its newest checkpoint stands.
    """
    composed = _load(recipe, overrides)
    from lcm_scale.training import fit as run

    folder = run.pretrain(composed, dry_run)
    if dry_run:
        return _plan("pretrain", composed, folder, recipe, overrides)
    _say(f"run folder: {folder}")
    _next(f"lcm-scale finetune RECIPE init_from={folder}")


@app.command(
    epilog="Example: lcm-scale finetune recipes/demo_finetune.yaml init_from=runs/demo-pretrain"
)
def finetune(recipe: RecipePath, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Finetune a pretrained model on new labels.

    Pseudo-labels stand in for missing targets where the recipe asks for them.
    """
    composed = _load(recipe, overrides)
    from lcm_scale.training import fit as run

    folder = run.finetune(composed, dry_run)
    if dry_run:
        return _plan("finetune", composed, folder, recipe, overrides)
    _say(f"run folder: {folder}")
    _next(_command("evaluate", recipe, overrides))


@app.command(epilog="Example: lcm-scale evaluate recipes/demo_finetune.yaml evaluate.folds=5")
def evaluate(recipe: RecipePath, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Cross-validate by subject, beside baselines, and report."""
    composed = _load(recipe, overrides)
    from lcm_scale.evaluation import crossvalidate

    report = crossvalidate.evaluate(composed, dry_run)
    if dry_run:
        return _plan("evaluate", composed, report.parent, recipe, overrides)
    print(f"report: {report}")
    _next(f"lcm-scale inspect {report.parent}")


app.command(epilog=cli_cost.EXAMPLE)(cli_cost.cost)


@app.command(epilog="Example: lcm-scale doctor recipes/pretrain_1b.yaml data=demo-pretrain")
def doctor(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Check machine, disk, shards and network before a run.

    Under srun every rank checks its own place, and all meet in one all-reduce.
    """
    composed = _load(recipe, overrides)
    from lcm_scale.cost import doctor as pre_flight

    findings = pre_flight.examine(composed)
    bad = pre_flight.failed(findings)
    if is_first() or bad:
        print(pre_flight.report(findings), flush=True)
    if bad:
        raise InputError(f"not ready: {', '.join(bad)}")
    _next(_command("pretrain", recipe, overrides))


def _load(path: Path, overrides: list[str] | None) -> Recipe:
    from lcm_scale import config

    return config.load(config.Recipe, path, overrides or [])


def _command(verb: str, recipe: Path, overrides: list[str] | None) -> str:
    return " ".join(["lcm-scale", verb, str(recipe), *(overrides or [])])


def _say(text: str) -> None:
    """Print once, however many processes run."""
    if is_first():
        print(text)


def _next(command: str) -> None:
    """Every verb ends with the one command that a person would run next."""
    _say(f"next: {command}")


def _plan(
    verb: str, composed: Recipe, folder: Path, recipe: Path, overrides: list[str] | None
) -> None:
    """How a dry run ends."""
    from lcm_scale import config

    print(config.dump(composed), end="")
    print(f"inputs are in order; would write {folder}")
    _next(_command(verb, recipe, overrides))


def _print_pairs(pairs: Mapping[str, Any]) -> None:
    width = max(len(key) for key in pairs)
    for key, value in pairs.items():
        print(f"{key:<{width}}  {value}")


def _print_manifest(manifest: ShardManifest, folder: Path) -> None:
    size = sum(s.bytes for s in manifest.shards)
    _print_pairs(
        {
            "shards": f"{folder}"
            + (" (simulated: no real person was scanned)" if manifest.simulated else ""),
            "scans": f"{manifest.scans} of {len(manifest.subjects)} subjects, cohort {manifest.cohort}",
            "files": f"{len(manifest.shards)} tar(s), {size / 1e6:.1f} MB, {manifest.dtype}, blocks of {manifest.block}",
            "atlas": f"{manifest.atlas.name}, {manifest.atlas.n_regions} regions, checksum {manifest.atlas.checksum}",
            "connectivity": ", ".join(f"{k}={v}" for k, v in manifest.connectivity.items()),
            **{f"target {t.name}": ", ".join(t.categories) for t in manifest.vocabulary.targets},
            "fingerprint": manifest.fingerprint,
            **_quality(manifest),
        }
    )
    for note in manifest.notes:
        print(f"note: {note}")


def _quality(manifest: ShardManifest) -> dict[str, Any]:
    """Skipped scans by reason; constant regions by name where they are so in every scan, by number
    otherwise."""
    quality = dict(manifest.quality)
    constant = quality.pop("constant regions, in scans", {})
    always = [region for region, scans in constant.items() if scans == manifest.scans]
    facts: dict[str, Any] = {}
    if always:
        facts["constant in every scan"] = ", ".join(always)
    if len(constant) > len(always):
        facts["constant in some scans"] = (
            f"{len(constant) - len(always)} regions (manifest.json names them)"
        )
    for key, value in quality.items():
        if isinstance(value, dict):
            facts |= {f"{key}: {why}": number for why, number in value.items()}
        elif value and key != "scans":
            facts[key] = value
    return facts


def _print_checkpoint(checkpoint: Checkpoint) -> None:
    model = checkpoint.model
    _print_pairs(
        {
            "checkpoint": checkpoint.path,
            "run": checkpoint.run,
            "model": f"width {model.width}, {model.layers} layers, {model.heads} heads, ffn {model.ffn}, "
            f"{model.n_tokens} tokens, {sum(w.numel() for w in checkpoint.state.values()):,} numbers",
            "atlas": f"{checkpoint.atlas.name}, {checkpoint.atlas.n_regions} regions, checksum {checkpoint.atlas.checksum}",
            "edges": checkpoint.edges,
            **{
                f"target {t.name}": ", ".join(t.categories)
                + ("" if t.name in checkpoint.active else " (not active)")
                for t in checkpoint.vocabulary.targets
            },
            "trained on": ", ".join(
                f"{name} ({mark})" for name, mark in checkpoint.fingerprints.items()
            )
            or "not recorded",
            "people seen": f"{len(checkpoint.subjects)}{' and others: imported weights' if checkpoint.unknown_subjects else ''}",
        }
    )


def _print_run(folder: Path) -> None:
    from lcm_scale.config import read_yaml

    recipe = read_yaml(folder / "recipe.yaml")
    saved = sorted(p.name for p in (folder / "checkpoints").glob("*.ckpt"))
    report = folder / "report.html"
    _print_pairs(
        {
            "run": f"{recipe.name}" + (f": {recipe.title}" if recipe.title else ""),
            "data": ", ".join(recipe.data.sets),
            "model": recipe.model.preset,
            "phases": ", ".join(f"{p.name} ({p.epochs} epochs)" for p in recipe.phases),
            "checkpoints": ", ".join(saved) or "none",
            "report": report if report.is_file() else "none yet",
        }
    )
