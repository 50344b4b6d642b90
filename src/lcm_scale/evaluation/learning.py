"""The epochs of every fold's models, as one table: what the learning curves show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.training.run_log import EpochRow

LOSSES = ("train_loss", "val_loss")


def learning_rows(
    prepared: PreparedEvaluation, of_models: Sequence[Sequence[EpochRow]]
) -> list[dict[str, Any]]:
    """A row an epoch: ``fold`` (its name), ``model`` (1, 2 ... of the fold's repeats), ``epoch``
    (from 0), ``phase``, ``train_loss``, ``val_loss`` (None where it was not measured) and ``kept``:
    the epoch whose weights answered.

    Args: of_models: the epochs of each model, fold by fold, those of a fold beside each other.
    """
    repeats = prepared.recipe.evaluate.repeats
    rows = []
    for number, epochs in enumerate(of_models):
        # Under `paper` each target takes an epoch of its own.
        kept = None if prepared.plan.optimistic else _kept(epochs)
        about = {"fold": fold_name(prepared, number // repeats), "model": number % repeats + 1}
        rows += [
            {
                **about,
                "epoch": row["epoch"],
                "phase": row["phase"],
                **{name: row.get(name) for name in LOSSES},
                "kept": place == kept,
            }
            for place, row in enumerate(epochs)
        ]
    return rows


def _kept(epochs: Sequence[EpochRow]) -> int | None:
    """Place of the last phase's first lowest validation loss; without one the last epoch, as
    `checkpoints.find` chooses."""
    last = epochs[-1]["phase"] if epochs else ""
    losses = {
        place: row["val_loss"]
        for place, row in enumerate(epochs)
        if row["phase"] == last and row.get("val_loss") is not None
    }
    return min(losses, key=losses.__getitem__, default=len(epochs) - 1 if epochs else None)


def fold_name(prepared: PreparedEvaluation, number: int) -> str:
    """Of a fold from 0: the site or set that it holds out, else its number."""
    plan, sets = prepared.plan, prepared.opened.sets
    scans = plan.scans[plan.folds[number].test]
    held = {"leave-site-out": _sites, "leave-set-out": _sets, "external": _sets}
    names = held.get(prepared.recipe.evaluate.protocol, lambda *_: [])(sets, scans)
    if len(names) == 1:
        return names[0]
    if not plan.rounds:
        return f"Fold {number + 1}"
    division = plan.rounds[number]
    return f"Division {division + 1}, fold {number - plan.rounds.index(division) + 1}"


def _sites(sets: ShardSets, scans: np.ndarray) -> list[str]:
    return [sets.sites[site] for site in np.unique(sets.site[scans]) if site >= 0]


def _sets(sets: ShardSets, scans: np.ndarray) -> list[str]:
    return [sets.names[number] for number in np.unique(sets.set_number[scans])]
