"""What a run remembers of its people, once its decoder is trained: fitted, weighed against the
decoder, and written beside its weights.

The memory is fitted on training scans first, so that the gates can be fitted on validation scans,
of which the memory then knows nothing and of which the decoder chose its epoch; then on both, since
nothing is chosen any more. Held-out scans of an evaluation are in neither. The file is
`checkpoints/final.ckpt`: the chosen epoch's weights and the memory, without optimiser state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lcm_scale import progress
from lcm_scale.data.given import given, given_to
from lcm_scale.inference.predictor import WHOLE, Predictor
from lcm_scale.linear import size
from lcm_scale.linear.context import Context
from lcm_scale.linear.memory import Asked, PeopleMemory, fit_gate, fit_memory
from lcm_scale.linear.prior import Prior
from lcm_scale.model.lora import merged
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
    written = checkpoints.load(chosen, apart=True)  # so that adapters can be exported
    model = replace(written, state=dict(merged(written.state, str(chosen))))
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
                _write(written, memory.gated(gates), unseen)
        advance()
        whole = _fit(prepared, model.active, everybody, prior).gated(gates)
        advance()
    _write(written, whole, final)
    return final


def _write(model: checkpoints.Checkpoint, whole: PeopleMemory, path: Path) -> None:
    """The decoder's checkpoint with a memory beside it."""
    config = replace(
        model.model,
        people_memory=True,
        context=tuple(len(column.categories) for column in whole.context),
        priors=0 if whole.prior is None else len(whole.prior.centres),
        kept_scans=0 if whole.kept is None else len(whole.kept.vectors),
        kept_people=0 if whole.kept is None else whole.kept.n_people,
    )
    part = MemoryPart.of(config)
    part.fill(whole, model.vocabulary.names)
    state = {f"model.{name}": value for name, value in model.state.items()}
    state |= {f"model.people.{name}": value for name, value in part.state_dict().items()}
    meaning = replace(model, model=config, context=whole.context)
    checkpoints.write_file({"state_dict": state, "lcm": meaning.to_json()}, path)


def remembered(prepared: PreparedRun) -> np.ndarray:
    """Numbers of the scans that are remembered, ascending: all that the run trains or validates
    on."""
    return np.sort(np.concatenate([prepared.train, prepared.validation]))


def sentence(prepared: PreparedRun) -> str:
    """What is to be said where not all scans meet all, people are kept, or a pretrained memory is
    not taken over; else ''."""
    said = []
    if prepared.recipe.model.people_memory == "rbf":
        said.append("people memory keeps people's vectors (rbf): the checkpoint is personal data")
    n_scans = len(prepared.train) + len(prepared.validation)
    most = size.landmarks_of(n_scans)
    if most is not None:
        said.append(
            f"people memory learns from {n_scans:,} scans, each compared with at most {most:,} "
            "landmarks, whose people are drawn by the seed (all meet all up to "
            f"{size.MOST_SCANS:,})"
        )
    start = prepared.opened.start
    seen = seen_before(prepared)
    if start is not None and start.model.kept_scans:
        said.append(
            "people memory starts anew: the one that the run starts from keeps people "
            "(model.people_memory=rbf) and has no weights to start from"
        )
    elif seen:
        said.append(
            f"people memory starts anew: the model that the run starts from saw {seen} of its "
            "people"
        )
    return "; ".join(said)


@dataclass(frozen=True)
class Material:
    """What a memory is fitted on, as `linear.memory.fit_memory` takes it.

    Attributes:
        edges: (n, E).   subject: (n,).   asked: by target.   known: context of the n.
        most: scans that may be landmarks, None: all meet all.
    """

    edges: np.ndarray
    subject: np.ndarray
    asked: dict[str, Asked]
    known: Context
    most: int | None


def material(prepared: PreparedRun, active: Sequence[str], scans: np.ndarray) -> Material:
    """Of some scans of a run.  Args: active: the targets that are asked.   scans: n numbers."""
    sets = prepared.opened.sets
    return Material(
        prepared.opened.source.gather(scans).astype(np.float32),
        sets.together[scans],
        {name: _asked(prepared, name, scans) for name in active},
        given(prepared.recipe.model.context, sets, scans),
        size.landmarks_of(len(prepared.train) + len(prepared.validation)),
    )


def _fit(
    prepared: PreparedRun, active: tuple[str, ...], scans: np.ndarray, prior: Prior | None
) -> PeopleMemory:
    of = material(prepared, active, scans)
    seed, radial = prepared.recipe.seed, prepared.recipe.model.people_memory == "rbf"
    return fit_memory(of.edges, of.subject, of.asked, seed, of.known, prior, of.most, radial)


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
