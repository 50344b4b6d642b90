"""A run's folder: where it lies, whether it may be used, and how it is made or opened again.

A folder may be moved and renamed, and its data too: where things lie is not compared. What must be
the same is known by its contents: shard sets by their fingerprints, a checkpoint to start from by
its mark.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lcm_scale.checked import read_object
from lcm_scale.config import Recipe, dump, expand, read_yaml
from lcm_scale.config.fields import dotted
from lcm_scale.config.run import may_differ
from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic
from lcm_scale.lock import check_free
from lcm_scale.provenance import provenance
from lcm_scale.ranks import is_first
from lcm_scale.training.run_log import LOCK, append_line, has_diverged
from lcm_scale.weights import checkpoints

RECIPE, PROVENANCE, EVALUATION = "recipe.yaml", "provenance.json", "evaluation.json"
STARTS = ("init_from", "evaluate.checkpoint")  # keys of a recipe that name a checkpoint
Flat = dict[str, Any]  # dotted keys of a recipe


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
    if (folder / RECIPE).is_file():
        free = may_differ(after_divergence=has_diverged(folder / "log.jsonl"))
        changed = _changed(_stored(folder), _flat(recipe), _marks(folder), free)
        _refuse(folder, "a run of another recipe", changed, "remove that folder")
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        what = "is a file" if not nearest.is_dir() else "may not be written"
        raise InputError(f"{folder}: cannot be made: {nearest} {what}; set name or runs_dir")
    check_free(folder / LOCK)


def write_head(recipe: Recipe, folder: Path, **more: Any) -> None:
    """Make the folder, with the recipe and where the run comes from; on the first rank alone.

    Args: more: facts of the run beside its provenance.
    """
    if not is_first():
        return
    for part in folder.glob(".*.partial"):  # a kill left it
        part.unlink(missing_ok=True)
    if (folder / RECIPE).is_file():
        _log_changes(_stored(folder), _flat(recipe), folder / "log.jsonl")
    facts = {**provenance(recipe.seed), "starts_from": _marks_of(recipe), **more}
    write_atomic(folder / RECIPE, dump(recipe).encode())
    write_atomic(folder / PROVENANCE, json.dumps(facts, indent=1).encode())


def check_evaluation(
    recipe: Recipe, folder: Path, fingerprints: Mapping[str, str] | None = None
) -> None:
    """See that an evaluation may write into its folder; nothing is written.

    A run's folder keeps the recipe that it was trained by, and may be asked anything (`evaluate`)
    about the same model and data. Once it was asked, the same may be asked again, nothing else: the
    answers lie in one place.

    Args: fingerprints: of the sets, where they are open.
    Raises: InputError as `check_folder`, and where it holds another evaluation.
    """
    if not (folder / RECIPE).is_file():
        return check_folder(recipe, folder)
    old, new, free = _stored(folder), _flat(recipe), may_differ()
    questions = {key for key in {*old, *new} if key.startswith("evaluate.")}
    changed = _changed(old, new, _marks(folder), free | questions)
    _refuse(folder, "a run of another recipe", changed, "remove that folder")
    file = folder / EVALUATION
    if not file.is_file():
        return None
    asked = read_object(file)
    changed = _changed(dotted(asked.get("recipe")), new, _texts(asked, "starts_from"), free)
    saw = _texts(asked, "fingerprints")
    changed += [f"fingerprint of {k}" for k, v in (fingerprints or {}).items() if saw.get(k) != v]
    remove = f"remove its {EVALUATION} and folds/"
    return _refuse(folder, "another evaluation", changed, remove)


def write_evaluation(recipe: Recipe, folder: Path, fingerprints: Mapping[str, str]) -> None:
    """Make the folder where there is none yet, and write down what is asked, and of which data and
    models."""
    if not (folder / RECIPE).is_file():
        write_head(recipe, folder)
    facts = {
        "recipe": asdict(recipe),
        "fingerprints": dict(fingerprints),
        "starts_from": _marks_of(recipe),
    }
    write_atomic(folder / EVALUATION, json.dumps(facts, indent=1).encode())


def fact_of(folder: Path, key: str) -> Any:
    """What `write_head` wrote under a key, None where there is nothing: earlier versions had no
    plan and no word of how they computed."""
    try:
        return read_object(folder / PROVENANCE).get(key)
    except InputError:
        return None


# -- what differs ----------------------------------------------------------------------------------


def _refuse(folder: Path, what: str, changed: list[str], remove: str) -> None:
    if changed:
        raise InputError(
            f"{folder} holds {what} ({', '.join(changed[:4])} differ); choose another name=... or "
            f"{remove}"
        )


def _changed(old: Flat, new: Flat, marks: Mapping[str, str], free: Iterable[str]) -> list[str]:
    """What makes another run of it, in words. A key that is newer than the old recipe had its
    default there.

    Args: marks: of the checkpoints that the old one started from.   free: keys that may differ.
    """
    usual = _flat(Recipe())
    changed = [
        key
        for key in sorted({*old, *new} - {*free, *STARTS})
        if _place_free(key, old.get(key, usual.get(key))) != _place_free(key, new.get(key))
    ]
    for key in STARTS:
        before, now = old.get(key), new.get(key)
        if key in free or (before is None and now is None):
            continue
        if before is None or now is None:
            changed.append(key)
        elif key in marks:
            if checkpoints.mark_of(checkpoints.find(expand(now))) != marks[key]:
                changed.append(key if before != now else f"the weights of {key}")
        elif expand(before).resolve() != expand(now).resolve():
            changed.append(key)
    return changed


def _place_free(key: str, value: Any) -> Any:
    """A value as it is compared: of shard sets that are named by path the name alone."""
    if key == "data.sets" and isinstance(value, list):
        return [expand(name).absolute().name for name in value]
    return value


def _log_changes(old: Flat, new: Flat, log: Path) -> None:
    """A line of what a run that diverged goes on with: the recipe in its folder is the new one."""
    keys = (may_differ(after_divergence=True) - may_differ()) & old.keys()
    changed = {key: [old[key], new[key]] for key in sorted(keys) if old[key] != new[key]}
    if changed and log.is_file():
        append_line(log, json.dumps({"event": "recipe", "changed": changed}))


def _marks_of(recipe: Recipe) -> dict[str, str]:
    named = dict(zip(STARTS, (recipe.init_from, recipe.evaluate.checkpoint), strict=True))
    return {
        key: checkpoints.mark_of(checkpoints.find(expand(path)))
        for key, path in named.items()
        if path
    }


def _marks(folder: Path) -> Mapping[str, str]:
    """As a folder has them written down; release 0.1.0 did not, and no run depends on that file."""
    try:
        return _texts(read_object(folder / PROVENANCE), "starts_from")
    except InputError:
        return {}


def _texts(data: Mapping[str, Any], key: str) -> Mapping[str, str]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _stored(folder: Path) -> Flat:
    return dotted(read_yaml(folder / RECIPE))


def _flat(recipe: Recipe) -> Flat:
    return dotted(asdict(recipe))
