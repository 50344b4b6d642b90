"""From an evaluation's numbers to its report: facts, stages and notes that stand beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lcm_scale import plugins
from lcm_scale.data.given import given
from lcm_scale.data.kin import sentence as kin_sentence
from lcm_scale.evaluation.baselines import TOLD
from lcm_scale.evaluation.calibrate import calibration_notes
from lcm_scale.evaluation.conformal import Promise, conformal_notes
from lcm_scale.evaluation.confounds import confounds
from lcm_scale.evaluation.counts import counted
from lcm_scale.evaluation.described import described
from lcm_scale.evaluation.folds import class_shortages
from lcm_scale.evaluation.harmonise import sentence
from lcm_scale.evaluation.held_out import Answers
from lcm_scale.evaluation.learning import learning_rows
from lcm_scale.evaluation.permutation import Permuted, permuted
from lcm_scale.evaluation.prepare import PreparedEvaluation
from lcm_scale.evaluation.questions import Question
from lcm_scale.evaluation.results import LabelPoint, Report, TargetResult
from lcm_scale.evaluation.several import holm
from lcm_scale.evaluation.subgroups import by_group
from lcm_scale.provenance import provenance
from lcm_scale.training.remember import sentence as sentence_of_memory
from lcm_scale.training.result import FitResult

UNKNOWN_SUBJECTS = (
    "The model starts from imported weights, which do not say whom they saw: whether people "
    "evaluated here were among them cannot be checked. If they were, its numbers are too good."
)
EDGE_BRANCH = (
    "The model has a linear branch from the edges beside the decoder: ours, not part of the "
    "published LCM."
)
PEOPLE_MEMORY = (
    "The model has people memory beside the decoder: ours, not part of the published LCM. The "
    "tables show what each of the two answers alone."
)


def summarise(
    prepared: PreparedEvaluation,
    results: Sequence[TargetResult],
    runs: Sequence[FitResult],
    labels: Sequence[LabelPoint] = (),
    promised: tuple[Promise, ...] = (),
    told: Sequence[Sequence[Answers]] | None = None,
) -> Report:
    """Everything that a reader of the report should see.

    Args: told: as `plain.Beside.told`, where it is known already.
    """
    recipe, sets, scans = prepared.recipe, prepared.opened.sets, prepared.plan.tested
    tested = [sets.manifests[number] for number in np.unique(sets.set_number[scans])]
    return Report(
        title=recipe.title or recipe.name,
        simulated=sets.simulated,
        headline=prepared.questions[0].target.name,
        targets=tuple(results),
        notes=_notes(prepared),
        protocol=prepared.plan.sentence,
        data={
            "set": ", ".join(m.name for m in tested),
            "scans": len(scans),
            "people": len(np.unique(sets.subject[scans])),
            "atlas": tested[0].atlas.name,
            "connectivity": ", ".join(sets.kinds_of(scans)),
            "fingerprint": ", ".join(m.fingerprint for m in tested),
        },
        stages=_stages(prepared, runs),
        curves=learning_rows(prepared, [run.rows for run in runs]),
        # Of the first fold's first model; each has its own in its folder.
        pseudo_labels=tuple(asdict(row) for row in runs[0].audit) if runs else (),
        # Of one set: counts of regions and scans of several do not add up.
        quality=dict(tested[0].quality) if len(tested) == 1 else {},
        provenance=provenance(recipe.seed),
        labels=tuple(labels),
        optimistic=prepared.plan.optimistic,
        brackets=prepared.plan.brackets,
        read_as=prepared.plan.read_as,
        subgroups=by_group(sets, results, recipe.evaluate.bootstrap, recipe.evaluate.seed),
        confounds=confounds(prepared, results, told),
        promises=promised,
        permuted=_permuted(prepared, results),
        methods=described(prepared),
        together=holm({t.target: _p_of(t) for t in results}),
        asked={
            question.target.name: counted(question, sets.labels[scans], sets.subject[scans])
            for question in prepared.questions
        },
    )


def _permuted(prepared: PreparedEvaluation, results: Sequence[TargetResult]) -> Permuted | None:
    """Of the headline."""
    config = prepared.recipe.evaluate
    if not config.permutations:
        return None
    headline = results[0]
    ours = next(p for p in headline.predictions if p.model == headline.model)
    site = prepared.opened.sets.site if config.permute_within == "site" else None
    return permuted(ours, headline.deciding, config.permutations, config.seed, site)


def _p_of(t: TargetResult) -> float:
    """That the model's difference from the best baseline is zero; NaN without one."""
    best = t.best_baseline
    p = t.difference(best, t.deciding).p if best else None
    return float("nan") if p is None else p


def _notes(prepared: PreparedEvaluation) -> tuple[str, ...]:
    notes = [note for manifest in prepared.opened.sets.manifests for note in manifest.notes]
    notes += prepared.plan.notes
    notes += _plugin_notes(prepared)
    if prepared.recipe.evaluate.group:
        notes.append(kin_sentence(prepared.opened.sets, prepared.recipe.evaluate.group))
    for question in prepared.questions:
        if question.target.log:
            notes.append(
                f"{question.target.name} is learnt and predicted on its log scale, by the model "
                "and the baselines; errors are in its own unit."
            )
        if question.target.is_class and prepared.fixed is None:
            notes += _shortage_note(prepared, question)
    notes += _kind_notes(prepared) + _missing_notes(prepared)
    if prepared.recipe.evaluate.harmonise != "none":
        asked = [question.target.name for question in prepared.questions]
        notes.append(
            sentence(prepared.opened, prepared.scans, prepared.folds, prepared.training, asked)
        )
    if prepared.recipe.evaluate.unit != "window":
        unit = prepared.recipe.evaluate.unit
        notes.append(f"Predictions are averaged over a {unit}'s windows: each {unit} counts once.")
    if prepared.recipe.model.edge_branch:
        notes.append(EDGE_BRANCH)
    notes += _people_notes(prepared) + calibration_notes(prepared)
    notes += conformal_notes(prepared)
    model = prepared.opened.start or prepared.fixed
    if model is not None and model.unknown_subjects:
        notes.append(UNKNOWN_SUBJECTS)
    return tuple(dict.fromkeys(notes))


def _plugin_notes(prepared: PreparedEvaluation) -> list[str]:
    """What other packages had a part in, here or when a set was made."""
    found = plugins.used()
    for manifest in prepared.opened.sets.manifests:
        found |= plugins.named_in(manifest.versions or {})
    named = ", ".join(
        f"{key.removeprefix(plugins.MARK)} {version}" for key, version in sorted(found.items())
    )
    return [f"Plug-ins of other packages took part: {named}."] if named else []


def _people_notes(prepared: PreparedEvaluation) -> list[str]:
    if prepared.fixed is not None:
        memory = [PEOPLE_MEMORY] if prepared.fixed.model.people_memory else []
        return memory + _context_notes(prepared)
    if prepared.recipe.model.people_memory == "none":
        return []
    of_folds = (sentence_of_memory(run) for of_fold in prepared.runs for run in of_fold)
    said = next(filter(None, of_folds), "")
    return [PEOPLE_MEMORY, *([f"In each fold {said}."] if said else []), *_context_notes(prepared)]


def _context_notes(prepared: PreparedEvaluation) -> list[str]:
    """What is told beside the matrix, and of how many scans it is not known."""
    if not prepared.context:
        return []
    known = given(prepared.context, prepared.opened.sets, prepared.scans)
    missing = np.isnan(known.values).sum(0)
    told = [
        f"{column.name}{f' (not known of {count} scans)' if count else ''}"
        for column, count in zip(known.columns, missing, strict=True)
    ]
    return [
        f"People memory is told what is known beside the matrix: {', '.join(told)}, each where it "
        f"is not the target itself. '{TOLD}' is the tuned linear baseline that is told the same."
    ]


def _kind_notes(prepared: PreparedEvaluation) -> list[str]:
    """Where `data.mix_kinds` let matrices of several kinds meet."""
    sets = prepared.opened.sets
    held = {f"set {m.name}": m.kind for m in sets.manifests}
    model = prepared.opened.start or prepared.fixed
    if model is not None and model.kinds:
        held[f"the model {model.run} before"] = ", ".join(model.kinds)
    if len(set(held.values())) < 2:
        return []
    return [
        "Kinds of connectivity are mixed (data.mix_kinds), which tells a model the set that a scan "
        f"is from: {'; '.join(f'{name} {kind}' for name, kind in held.items())}."
    ]


def _missing_notes(prepared: PreparedEvaluation) -> list[str]:
    """Where rows of zeros take part in attention like data."""
    fixed = prepared.fixed
    masked = fixed.model.mask_constant if fixed else prepared.opened.model.mask_constant
    return [
        f"Set {m.name}: regions without data in some scans: {len(m.missing)}. Their rows of zeros "
        "take part in attention; model.mask_constant=true leaves them out."
        for m in prepared.opened.sets.manifests
        if m.missing and not masked
    ]


def _shortage_note(prepared: PreparedEvaluation, question: Question) -> list[str]:
    sets, scans = prepared.opened.sets, prepared.scans
    codes = np.nan_to_num(question.truth(sets.labels[scans]), nan=-1)
    short = {
        words
        for fold in prepared.folds
        for words in class_shortages(fold, codes, question.categories, sets.subject[scans])
    }
    return [f"{question.target.name}: in some fold {'; '.join(sorted(short))}."] if short else []


def _stages(
    prepared: PreparedEvaluation, runs: Sequence[FitResult]
) -> tuple[tuple[str, dict[str, Any]], ...]:
    """What happened, in order, each with its facts."""
    recipe, start = prepared.recipe, prepared.opened.start
    stages: list[tuple[str, dict[str, Any]]] = [
        (
            "shard",
            {
                m.name: f"{m.scans} scans of {len(m.subjects)} people, "
                f"{m.atlas.name} ({m.atlas.n_regions} regions)"
                for m in prepared.opened.sets.manifests
            },
        )
    ]
    model = start or prepared.fixed
    if model is not None:
        seen = len(model.subjects)
        unknown = model.unknown_subjects
        pretraining = {
            "run": model.run,
            "people seen": f"{seen}, and others that imported weights do not name"
            if unknown
            else seen,
            "evaluated people among them": "cannot be checked" if unknown else 0,
            "connectivity": ", ".join(model.kinds) or "not recorded",
            "targets": ", ".join(model.active),
        }
        stages.append(("pretrain", pretraining))
    if runs:
        training = {
            "models": len(runs),
            "optimiser steps": sum(result.steps for result in runs),
            "phases": ", ".join(
                f"{p.name} ({p.epochs} epochs, {p.stage}, {p.readout} readout)"
                for p in recipe.phases
            ),
        }
        stages.append(("train" if start is None else "finetune", training))
    evaluation = {
        "folds": len(prepared.folds),
        "held-out scans": len(prepared.plan.tested),
        "intervals": "corrected resampled t over folds"
        if prepared.plan.rounds
        else f"bootstrap, {recipe.evaluate.bootstrap} resamples of people",
    }
    return (*stages, ("evaluate", evaluation))
