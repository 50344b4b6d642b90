"""What a methods section has to say of an evaluation, as plain values: its sets, model, training
and statistics. The report writes its paragraphs from these alone, and `results.json` holds them.
"""

from __future__ import annotations

from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from lcm_scale.config import LoRAConfig, Trains
from lcm_scale.data.manifest import ShardManifest, read_index
from lcm_scale.data.quality_table import read_table
from lcm_scale.data.sets import ShardSets
from lcm_scale.evaluation.calibrate import maps_used
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.model.flops import parameter_count, trained_parameters
from lcm_scale.model.presets import LCMConfig
from lcm_scale.provenance import versions
from lcm_scale.vocabulary import NOT_APPLICABLE, Target
from lcm_scale.weights.history import trains_of

BESIDE = ("scikit-learn", "scipy")  # what the baselines and the statistics are computed by


def described(prepared: PreparedEvaluation) -> dict[str, Any]:
    """``sets`` (a list), ``model``, ``training``, ``evaluation`` and ``versions``; no name of a
    person, file or machine."""
    sets, tested = prepared.opened.sets, set(prepared.opened.sets.set_number[prepared.plan.tested])
    return {
        "sets": [
            {**_set(sets, number), "tested": number in tested}
            for number in range(len(sets.manifests))
        ],
        "model": _model(prepared),
        "training": _training(prepared),
        "evaluation": _evaluation(prepared),
        "versions": {**versions(), **{name: metadata.version(name) for name in BESIDE}},
    }


# -- people and scans ------------------------------------------------------------------------------


def _set(sets: ShardSets, number: int) -> dict[str, Any]:
    manifest, here = sets.manifests[number], np.flatnonzero(sets.set_number == number)
    sites = np.unique(sets.site[here])
    answers = {
        target.name: _answers(target, sets.labels[here, column], sets.subject[here])
        for column, target in enumerate(sets.vocabulary.targets)
    }
    return {
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "simulated": manifest.simulated,
        "scans": len(here),
        "people": len(np.unique(sets.subject[here])),
        "sites": int((sites >= 0).sum()),
        "answers": {name: found for name, found in answers.items() if found},
        "atlas": manifest.atlas.name,
        "regions": manifest.atlas.n_regions,
        "connectivity": {"kind": manifest.kind, **dict(manifest.connectivity)},
        "left_out": dict(manifest.quality.get("skipped", {})),
        "notes": list(manifest.notes),
        **_scanning(sets.folders[number], manifest),
    }


def _answers(target: Target, labels: np.ndarray, subject: np.ndarray) -> dict[str, Any]:
    """``people`` who have an answer, and ``of`` each category how many, or the spread of a number
    over them; empty where nobody has one.

    Args: labels, subject: (n,) of the set's scans.
    """
    known = np.isfinite(labels)
    if target.is_class:
        counts = {
            category: len(np.unique(subject[labels == code]))
            for code, category in enumerate(target.categories)
            if category != NOT_APPLICABLE
        }
        named = {name: count for name, count in counts.items() if count}
        codes = [code for code, name in enumerate(target.categories) if name in named]
        return (
            {"people": len(np.unique(subject[np.isin(labels, codes)])), "of": named}
            if named
            else {}
        )
    people = np.unique(subject[known])
    if not len(people):
        return {}
    values = np.array([labels[known & (subject == person)].mean() for person in people], float)
    return {
        "people": len(people),
        "unit": target.measured_in,
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        "low": float(values.min()),
        "high": float(values.max()),
    }


def _scanning(folder: Path, manifest: ShardManifest) -> dict[str, Any]:
    """Length, repetition time and motion of the scans, as far as they are known."""
    table = read_table(folder, manifest, read_index(folder, manifest))
    found: dict[str, Any] = {}
    for name in ("volumes", "tr", "mean_fd"):
        values = table.numbers[name] if table else np.array([])
        values = values[np.isfinite(values) & (values > 0)]
        if len(values):
            ends = {"low": float(values.min()), "high": float(values.max())}
            found[name] = {"scans": len(values), "mean": float(values.mean()), **ends}
    return found


# -- model, training, statistics -------------------------------------------------------------------


def _model(prepared: PreparedEvaluation) -> dict[str, Any]:
    recipe, start = prepared.recipe, prepared.opened.start or prepared.fixed
    shape = prepared.fixed.model if prepared.fixed else prepared.opened.model
    return {
        "parameters": parameter_count(shape),
        "layers": shape.layers,
        "width": shape.width,
        "heads": shape.heads,
        "feed_forward": shape.ffn,
        "dropout": shape.dropout,
        "input_dropout": shape.input_dropout,
        "tokens": shape.n_tokens,
        "edges": prepared.fixed.edges if prepared.fixed else recipe.data.edges,
        "mask_constant": shape.mask_constant,
        "linear_branch": shape.edge_branch,
        "people_memory": recipe.model.people_memory
        if prepared.fixed is None
        else ("fitted" if shape.people_memory else "none"),
        "context": list(prepared.context),
        "trained_before_on": len(start.subjects) if start else 0,
        "trained_before_on_others_unnamed": bool(start and start.unknown_subjects),
        "fixed": prepared.fixed is not None,
        "trains": _trained_part(
            shape, trains_of(prepared.fixed) if prepared.fixed else recipe.optim.trains
        ),
    }


def _trained_part(shape: LCMConfig, trains: Trains) -> dict[str, Any]:
    """``part`` as `OptimConfig.trainable` calls it, how many ``weights`` that is, and its
    adapters."""
    weights = trained_parameters(shape, trains)
    if isinstance(trains, LoRAConfig):
        return {"part": "lora", "weights": weights, **asdict(trains)}
    return {"part": trains, "weights": weights}


def _training(prepared: PreparedEvaluation) -> dict[str, Any]:
    """Empty of a model that is evaluated as it is."""
    recipe = prepared.recipe
    if prepared.fixed is not None:
        return {}
    stages = {"momentum": recipe.optim.momentum, "adaptive": recipe.optim.adaptive}
    return {
        "models": sum(len(of_fold) for of_fold in prepared.runs),
        "phases": [
            {
                "name": phase.name,
                "epochs": phase.end_epoch - phase.first_epoch,
                "stage": phase.stage,
                "readout": phase.readout,
                "lr": stages[phase.stage].lr * phase.lr_scale,
                "weight_decay": stages[phase.stage].weight_decay,
                "pseudo_labels": phase.pseudo_labels,
            }
            for phase in prepared.opened.phases
        ],
        "batch": recipe.trainer.global_batch,
        "schedule": recipe.optim.schedule,
        "clip_norm": recipe.optim.clip_norm,
        "validation": recipe.data.validation,
        "scalar_weight": recipe.objective.scalar_weight,
        "scalar_scale": recipe.objective.scalar_scale,
        "label_smoothing": recipe.objective.label_smoothing,
        "seeds": sorted({run.recipe.seed for of_fold in prepared.runs for run in of_fold}),
    }


def _evaluation(prepared: PreparedEvaluation) -> dict[str, Any]:
    config = prepared.recipe.evaluate
    return {
        "protocol": "external" if prepared.fixed is not None else config.protocol,
        "targets": [question.target.name for question in prepared.questions],
        "folds": len(prepared.folds),
        "fold_seed": config.seed,
        "stratify": config.stratify,
        "group": config.group,
        "repeats": config.repeats,
        "unit": config.unit,
        "harmonise": config.harmonise,
        "calibration": config.calibration,
        "calibrated": maps_used(prepared),  # few people may have allowed another map, or none
        "conformal": config.conformal,
        "permutations": config.permutations,
        "bootstrap": 0 if prepared.plan.rounds else config.bootstrap,
        "baselines": list(prepared.baselines),
        "without_pretraining": bool(prepared.scratch),
        "label_counts": list(config.label_counts),
        "label_draws": config.label_draws if config.label_counts else 0,
    }
