"""The verbs of data: shard, verify, repair, inspect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lcm_scale.cli.show import DryRun, Overrides, RecipePath, print_next, print_pairs
from lcm_scale.errors import InputError
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.atlas import Atlas
    from lcm_scale.config import ShardRecipe
    from lcm_scale.data.context import ContextColumn
    from lcm_scale.data.manifest import ShardManifest
    from lcm_scale.vocabulary import Target
    from lcm_scale.weights.checkpoints import Checkpoint


def shard(
    recipe: RecipePath,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that read files; by default as many as there are processors and help.",
        ),
    ] = None,
) -> None:
    """Turn raw files into a shard set.

    FC matrices and BEI labels go into tars, with a manifest beside them. One that was killed goes
    on where it was.
    """
    from lcm_scale import config

    composed = config.load(config.ShardRecipe, recipe, overrides or [])
    from lcm_scale.data.shards import prepare_shards, write_shards

    folder, atlas = prepare_shards(composed)
    if dry_run:
        listed = _listed(composed, atlas)
        print(config.dump(composed), end="")
        print(f"would write {folder}; {listed}")
        return
    _print_manifest(write_shards(composed, jobs), folder)
    print_next(f"lcm-scale verify {folder}")


def _listed(recipe: ShardRecipe, atlas: Atlas) -> str:
    """The scans of a recipe in a few words; no scan's file is opened.

    Raises: InputError where they cannot be listed, or there are none.
    """
    from lcm_scale.data.collect import list_scans
    from lcm_scale.data.readers import brings_its_files

    if brings_its_files(recipe):
        return "its raw files are made then"
    found = list_scans(recipe, atlas)
    if not found.scans:
        raise InputError(f"{recipe.name}: no usable scan is listed")
    left = f", {len(found.skipped)} left out" if found.skipped else ""
    return f"{len(found.scans)} scans are listed{left}; their files are not opened yet"


def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with manifest.json.")],
) -> None:
    """Check every byte of a shard set against its manifest."""
    from lcm_scale.data.verify import verify_shards

    manifest = verify_shards(folder)
    print(
        f"{folder}: {manifest.scans} scans in {len(manifest.shards)} tar(s) "
        "are what the manifest says"
    )
    print_next(f"lcm-scale inspect {folder}")


def repair(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with manifest.json.")],
) -> None:
    """Make the damaged and missing tars of a shard set anew from the HDF5 store beside them."""
    from lcm_scale.data.repair import repair_shards

    made = repair_shards(folder)
    if made:
        print(f"{folder}: made anew, byte for byte: {', '.join(made)}")
    else:
        print(f"{folder}: every tar is whole, nothing was done")
    print_next(f"lcm-scale verify {folder}")


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A shard folder, a run folder or a checkpoint.")
    ],
    other: Annotated[
        Path | None,
        typer.Argument(metavar="[OTHER]", help="A second shard folder: who is in both?"),
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Look for people who are in a set twice.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="OUT.html", help="Write a page about a shard set."),
    ] = None,
) -> None:
    """Say what a shard set, a run or a checkpoint holds, or who is in two sets."""
    if html is not None:
        if other is not None or duplicates:
            raise InputError("--html: a page is about one set; leave the other arguments out")
        from lcm_scale.report.set_page import write_set_page

        write_set_page(path, html)
        print(f"wrote {html}")
        print_next(f"lcm-scale cost data={path}")
        return
    if other is not None or duplicates:
        from lcm_scale.data.compare import compare

        print_pairs(compare(path, other))
        print_next(f"lcm-scale inspect {path}")
        return
    if not path.exists():
        raise InputError(
            f"{path}: no such file or folder; name a shard folder, a run folder or a .ckpt file"
        )
    if (path / "recipe.yaml").is_file():
        _print_run(path)
        print_next(f"lcm-scale evaluate {path / 'recipe.yaml'}")
    elif path.is_file() or (path / "checkpoints").is_dir():
        from lcm_scale.weights.checkpoints import load

        _print_checkpoint(load(path))
        print_next(f"lcm-scale finetune RECIPE init_from={path}")
    else:
        from lcm_scale.data.manifest import read_manifest

        manifest = read_manifest(path)
        _print_manifest(manifest, path)
        print_next(f"lcm-scale cost data={path}")


def _print_manifest(manifest: ShardManifest, folder: Path) -> None:
    size = sum(s.bytes for s in manifest.shards)
    print_pairs(
        {
            "shards": f"{folder}"
            + (" (simulated: no real person was scanned)" if manifest.simulated else ""),
            "scans": f"{manifest.scans} of {len(manifest.subjects)} subjects, "
            f"cohort {manifest.cohort}",
            "files": f"{len(manifest.shards)} tar(s), {size / 1e6:.1f} MB, {manifest.dtype}, "
            f"blocks of {manifest.block}",
            "atlas": _in_words(manifest.atlas),
            "connectivity": ", ".join(f"{k}={v}" for k, v in manifest.connectivity.items()),
            **{f"target {t.name}": _categories(t) for t in manifest.vocabulary.targets},
            **{f"context {c.name}": _known(c) for c in manifest.context},
            "fingerprint": manifest.fingerprint,
            **_quality(manifest),
        }
    )
    for note in manifest.notes:
        print(f"note: {note}")


def _categories(target: Target) -> str:
    """A target's categories, a scalar's unit and that it is learnt as a logarithm."""
    about = ", ".join(filter(None, (target.measured_in, "log scale" if target.log else "")))
    listed = ", ".join(target.categories)
    return f"{listed} ({about})" if about else listed


def _known(column: ContextColumn) -> str:
    """Its categories with their counts, or its unit; how many scans have a value."""
    counted = zip(column.categories, column.counts, strict=True)
    listed = ", ".join(f"{category} {count}" for category, count in counted)
    return f"{listed or column.unit or 'number'}; known of {column.known} scans"


def _in_words(atlas: Atlas) -> str:
    return f"{atlas.name}, {atlas.n_regions} regions, checksum {atlas.checksum}"


def _quality(manifest: ShardManifest) -> dict[str, Any]:
    """Skipped scans by reason; constant regions by name where they are so in every scan, by number
    otherwise."""
    from lcm_scale.data.manifest import CONSTANT

    quality = dict(manifest.quality)
    constant = quality.pop(CONSTANT, {})
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
    from lcm_scale.weights.personal import personal

    model = checkpoint.model
    numbers = sum(weight.numel() for weight in checkpoint.state.values())
    print_pairs(
        {
            "checkpoint": checkpoint.path,
            "run": checkpoint.run,
            "model": f"width {model.width}, {model.layers} layers, {model.heads} heads, "
            f"ffn {model.ffn}, {model.n_tokens} tokens, {numbers:,} numbers",
            "atlas": _in_words(checkpoint.atlas),
            "edges": checkpoint.edges,
            "connectivity": ", ".join(checkpoint.kinds) or "not recorded",
            **{
                f"target {t.name}": ", ".join(t.categories)
                + ("" if t.name in checkpoint.active else " (not active)")
                for t in checkpoint.vocabulary.targets
            },
            "trained on": ", ".join(
                f"{name} ({mark})" for name, mark in checkpoint.fingerprints.items()
            )
            or "not recorded",
            "people seen": f"{len(checkpoint.subjects)}"
            + (" and others: imported weights" if checkpoint.unknown_subjects else ""),
            **({"personal data": f"it holds {kept}"} if (kept := personal(model)) else {}),
        }
    )


def _print_run(folder: Path) -> None:
    from lcm_scale.config import read_yaml

    # Not by the recipe's schema: a run of an older or newer version has other keys.
    recipe = read_yaml(folder / "recipe.yaml")
    saved = sorted(p.name for p in (folder / "checkpoints").glob("*.ckpt"))
    report = folder / "report.html"
    title, phases = _stated(recipe, "title"), _stated(recipe, "phases")
    print_pairs(
        {
            "run": f"{_stated(recipe, 'name') or folder.name}" + (f": {title}" if title else ""),
            "data": _joined(_stated(recipe, "data.sets")) or "not stated",
            "model": _stated(recipe, "model.preset") or "not stated",
            "phases": _joined(
                [
                    f"{_stated(phase, 'name')} ({_stated(phase, 'epochs')} epochs)"
                    for phase in (phases if isinstance(phases, list) else [])
                ]
            )
            or "not stated",
            "checkpoints": ", ".join(saved) or "none",
            "report": report if report.is_file() else "none yet",
        }
    )


def _stated(section: Any, key: str) -> Any:
    """What a stored recipe says under a dotted key, '' where it says nothing."""
    for part in key.split("."):
        section = section.get(part) if isinstance(section, Mapping) else None
    return "" if section is None else section


def _joined(words: Any) -> str:
    return ", ".join(map(str, words)) if isinstance(words, list) else str(words)
