"""What a run remembers of its people, once its decoder is trained: fitted, weighed against the
decoder, and written beside its weights.

The memory is fitted on training scans first, so that the gates can be fitted on validation scans,
of which the memory then knows nothing and of which the decoder chose its epoch; then on both, since
nothing is chosen any more. Held-out scans of an evaluation are in neither. The file is
`checkpoints/final.ckpt`: the chosen epoch's weights and the memory, without optimiser state.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lcm_scale import progress
from lcm_scale.data.given import given, given_to
from lcm_scale.inference.predictor import WHOLE, Predictor
from lcm_scale.linear.memory import (
    MOST_SCANS,
    Asked,
    PeopleMemory,
    fit_gate,
    fit_memory,
    within_reach,
)
from lcm_scale.linear.prior import Prior
from lcm_scale.model.people import PeopleMemory as MemoryPart
from lcm_scale.terminal import print
from lcm_scale.training.prepare import PreparedRun
from lcm_scale.training.prior import prior_of, seen_before
from lcm_scale.vocabulary import NOT_APPLICABLE
from lcm_scale.weights import checkpoints


def remember(prepared: PreparedRun, chosen: Path) -> Path:
    """Fit the memory of a trained run and write its final checkpoint; nothing where it is there.

    Where the run keeps one, the same model with a memory that never saw the validation people is
    written too (`checkpoints.UNSEEN`): what it answers about them is what it would about strangers.

    Args: chosen: the checkpoint whose decoder stands beside it.
    Returns: the final checkpoint.  Raises: InputError where it cannot be written.
    """
    final, unseen = (chosen.parent / name for name in (checkpoints.FINAL, checkpoints.UNSEEN))
    if final.is_file() and (unseen.is_file() or not prepared.keep_unseen):
        return final
    model = checkpoints.load(chosen)
    everybody = remembered(prepared)
    if said := sentence(prepared):
        print(f"{prepared.label}: {said}")
    train = everybody[np.isin(everybody, prepared.train)]
    prior = prior_of(prepared)
    with progress.stage(f"{prepared.label}, people memory", 2) as advance:
        gates = {}
        if len(train) < len(everybody):
            memory = _fit(prepared, model.active, train, prior)
            gates = _gates(prepared, model, memory, np.setdiff1d(everybody, train))
            if prepared.keep_unseen:
                _write(model, memory.gated(gates), unseen)
        advance()
        whole = _fit(prepared, model.active, everybody, prior).gated(gates)
        advance()
    _write(model, whole, final)
    return final


def _write(model: checkpoints.Checkpoint, whole: PeopleMemory, path: Path) -> None:
    """The decoder's checkpoint with a memory beside it."""
    config = replace(
        model.model,
        people_memory=True,
        context=tuple(len(column.categories) for column in whole.context),
        priors=0 if whole.prior is None else len(whole.prior.centres),
    )
    part = MemoryPart(config.n_regions, config.target_tokens, config.context, config.priors)
    part.fill(whole, model.vocabulary.names)
    state = {f"model.{name}": value for name, value in model.state.items()}
    state |= {f"model.people.{name}": value for name, value in part.state_dict().items()}
    meaning = replace(model, model=config, context=whole.context)
    checkpoints.write_file({"state_dict": state, "lcm": meaning.to_json()}, path)


def remembered(prepared: PreparedRun) -> np.ndarray:
    """Numbers of the scans that are remembered, ascending: all that the run trains or validates on,
    or of as many people as `MOST_SCANS` has room for, drawn by the seed."""
    scans = np.sort(np.concatenate([prepared.train, prepared.validation]))
    subject = prepared.opened.sets.subject[scans]
    return scans[within_reach(subject, prepared.recipe.seed, MOST_SCANS)]


def sentence(prepared: PreparedRun) -> str:
    """What is to be said where not all scans are remembered, or a pretrained memory is not taken
    over; else ''."""
    said = []
    found, there = len(remembered(prepared)), len(prepared.train) + len(prepared.validation)
    if found < there:
        said.append(
            f"people memory is fitted on {found:,} of {there:,} scans, whose people are drawn by "
            f"the seed: products of more than {MOST_SCANS:,} scans with each other would take too "
            "long"
        )
    seen = seen_before(prepared)
    if seen:
        said.append(
            f"people memory starts anew: the model that the run starts from saw {seen} of its "
            "people"
        )
    return "; ".join(said)


def _fit(
    prepared: PreparedRun, active: tuple[str, ...], scans: np.ndarray, prior: Prior | None
) -> PeopleMemory:
    sets = prepared.opened.sets
    edges = prepared.opened.source.gather(scans).astype(np.float32)
    asked = {name: _asked(prepared, name, scans) for name in active}
    known = given(prepared.recipe.model.context, sets, scans)
    return fit_memory(edges, sets.together[scans], asked, prepared.recipe.seed, known, prior)


def _asked(prepared: PreparedRun, name: str, scans: np.ndarray) -> Asked:
    """N/A is what scans outside a group carry, no answer to the question."""
    sets = prepared.opened.sets
    target = sets.vocabulary[name]
    truth = sets.labels[scans, sets.vocabulary.names.index(name)].astype(np.float64)
    if not target.is_class:
        return Asked(truth, 0, target.log)
    if NOT_APPLICABLE in target.categories:
        truth[truth == target.categories.index(NOT_APPLICABLE)] = np.nan
    return Asked(truth, target.n_tokens)


def _gates(
    prepared: PreparedRun, model: checkpoints.Checkpoint, memory: PeopleMemory, unseen: np.ndarray
) -> dict[str, float]:
    """Of each remembered target, fitted on validation scans."""
    predictor = Predictor(prepared.opened.sets, prepared.opened.source, prepared.recipe)
    edges = predictor.edges(unseen)
    remembered = memory.scores(edges, given_to(memory.context, predictor.sets, unseen))
    decoder = predictor.scores(model, unseen)[WHOLE]
    gates = {}
    for name, target in memory.targets.items():
        truth = _asked(prepared, name, unseen).truth
        known = np.isfinite(truth)
        if known.any():
            gates[name] = fit_gate(
                remembered[name][known],
                decoder[name][known],
                truth[known],
                prepared.opened.sets.together[unseen][known],
                target.n_classes > 0,
            )
    return gates
