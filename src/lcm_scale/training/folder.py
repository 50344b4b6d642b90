"""A run's folder: where it lies, whether it may be used, and how it is made or opened again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lcm_scale.config import Recipe, dump, expand, read_yaml
from lcm_scale.config.run import may_differ
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic
from lcm_scale.lock import check_free
from lcm_scale.provenance import provenance
from lcm_scale.ranks import is_first

LOCK = ".lock"  # of the one run that may write here


def run_folder(recipe: Recipe) -> Path:
    """`runs_dir/name`.  Raises: InputError where the recipe has no name."""
    if not recipe.name:
        raise InputError("name is empty: the run folder is runs_dir/name")
    return expand(recipe.runs_dir) / recipe.name


def check_folder(recipe: Recipe, folder: Path) -> None:
    """See that a run may write into its folder; nothing is written.

    Raises: InputError where it holds a run of another recipe, another process is at work in it, or
        it cannot be made or written.
    """
    file = folder / "recipe.yaml"
    if file.is_file():
        changed = [k for k in differences(read_yaml(file), dump(recipe)) if k not in may_differ()]
        if changed:
            raise InputError(
                f"{folder} holds a run of another recipe ({', '.join(changed[:4])} differ); "
                "choose another name=... or remove that folder"
            )
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        what = "is a file" if not nearest.is_dir() else "may not be written"
        raise InputError(f"{folder}: cannot be made: {nearest} {what}; set name or runs_dir")
    check_free(folder / LOCK)


def write_head(recipe: Recipe, folder: Path) -> None:
    """Make the folder, with the recipe and where the run comes from; on the first rank alone."""
    if not is_first():
        return
    for part in folder.glob(".*.partial"):  # a kill left it
        part.unlink(missing_ok=True)
    write_atomic(folder / "recipe.yaml", dump(recipe).encode())
    write_atomic(folder / "provenance.json", json.dumps(provenance(recipe.seed), indent=1).encode())


def differences(old: Any, new_text: str) -> list[str]:
    """Dotted keys whose values differ between a stored recipe and a new one. A key that is newer
    than the stored recipe had its default there."""

    def flat(config: Any, prefix: str = "") -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in config.items():
            if isinstance(value, dict):
                result |= flat(value, f"{prefix}{key}.")
            else:
                result[f"{prefix}{key}"] = value
        return result

    usual = flat(OmegaConf.to_container(OmegaConf.structured(Recipe)))
    before = usual | flat(OmegaConf.to_container(old))
    after = flat(OmegaConf.to_container(OmegaConf.create(new_text)))
    return [k for k in sorted({*before, *after}) if before.get(k) != after.get(k)]
