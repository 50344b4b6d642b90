"""From a recipe to everything that a run needs, checked and made once.

`open_recipe` opens what does not depend on who is trained on: the shard sets, the checkpoint that
the run starts from, the model, the phases. `prepare_split` adds the people, the folder and the
machine. Folds and sweep points open once and split often. Whatever can fail because of the user
fails here, before a folder is made: a dry run is this file and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lcm_scale.config import LoRAConfig, Recipe, TrainerConfig, expand
from lcm_scale.cost.choice import Choice, choose, settings_before
from lcm_scale.cost.count import job_for
from lcm_scale.data.given import check_names
from lcm_scale.data.kinds import CORRELATIONS
from lcm_scale.data.order import BatchPlan
from lcm_scale.data.sets import ShardSets, open_sets, scans_to_train, split_subjects
from lcm_scale.data.state import check_state
from lcm_scale.data.stream import Edges, open_edges
from lcm_scale.errors import InputError, nearest
from lcm_scale.hardware.machine import machine_here
from lcm_scale.model.presets import LCMConfig, resolve
from lcm_scale.objectives import TargetLoss
from lcm_scale.training.folder import check_folder, fact_of, run_folder
from lcm_scale.training.loggers import check_loggers
from lcm_scale.training.parallel.strategy import Hardware, choose_hardware
from lcm_scale.training.schedule import Phase, decay_epoch, schedule
from lcm_scale.training.transfer import check_fit, check_weights
from lcm_scale.weights import checkpoints
from lcm_scale.weights.checkpoints import Checkpoint
from lcm_scale.weights.meaning import CHECKPOINT, Meaning


@dataclass(frozen=True)
class Opened:
    """What a recipe names, opened, and seen to fit together.

    Attributes:
        start: the checkpoint of `init_from`, None where the run starts from nothing.
        source: the scans' edges; resident ones are in memory already.
        model: with the tokens of the whole vocabulary, those of later phases included.
        harmonised: what was done to the source's edges, one of config.run.HARMONISE.
    """

    recipe: Recipe
    sets: ShardSets
    source: Edges
    start: Checkpoint | None
    model: LCMConfig
    phases: tuple[Phase, ...]
    harmonised: str = "none"


@dataclass(frozen=True)
class PreparedRun:
    """One run, ready for `fit`.

    Attributes:
        recipe: of this run; a fold's has a name and a seed of its own.
        label: for the progress display.
        train, validation: scan numbers, ascending; whoever is in neither is never seen.
        terms: one a target of the vocabulary: its weight, and a scalar's centre and scale.
        epoch_steps: optimiser steps of every epoch.
        choice: how it is spread over the machine, and why.
        resume: the checkpoint to go on from, None where the run begins.
        by_target: whether each target's best epoch on the validation scans is kept.
        keep_unseen: whether a model with people memory is kept whose memory has no validation
            people, besides the final one.
    """

    opened: Opened
    recipe: Recipe
    folder: Path
    label: str
    train: np.ndarray
    validation: np.ndarray
    terms: tuple[TargetLoss, ...]
    epoch_steps: tuple[int, ...]
    hardware: Hardware
    choice: Choice
    resume: Path | None
    by_target: bool = False
    keep_unseen: bool = False

    @property
    def trainer(self) -> TrainerConfig:
        """The recipe's, with what it leaves to the machine."""
        return self.choice.applied(self.recipe.trainer)

    @cached_property
    def total_steps(self) -> int:
        """Of the schedule; `steps` may be fewer."""
        return sum(self.epoch_steps)

    @cached_property
    def decay_step(self) -> int:
        """Where a warm-up-stable-decay schedule begins to decay."""
        return sum(self.epoch_steps[: decay_epoch(self.recipe.optim, len(self.epoch_steps))])

    @property
    def steps(self) -> int:
        """That will be taken: the schedule's, or `trainer.max_steps`."""
        return min(self.total_steps, self.recipe.trainer.max_steps or self.total_steps)

    @property
    def done(self) -> int:
        """Steps that the checkpoint has which it goes on from."""
        return int(self.resume.stem.removeprefix("step-")) if self.resume else 0

    @property
    def is_trained(self) -> bool:
        """Whether all steps are taken and what it answers with is written."""
        if self.resume is None or self.done < self.steps:
            return False
        if self.recipe.model.people_memory == "none":
            return True
        names = [checkpoints.FINAL, *[checkpoints.UNSEEN] * self.keep_unseen]
        return all((self.resume.parent / name).is_file() for name in names)

    @cached_property
    def subjects(self) -> list[str]:
        """Hashed ids of everybody whom the model will have seen, its starting weights included."""
        sets, start = self.opened.sets, self.opened.start
        here = sets.subject_hashes(np.concatenate([self.train, self.validation]))
        return sorted({*here, *(start.subjects if start else ())})


def prepare(recipe: Recipe) -> PreparedRun:
    """A run on all scans of the recipe's sets, but for the people that choose the epoch.

    Raises: InputError.
    """
    folder = run_folder(recipe)
    check_folder(recipe, folder)  # before data are read, which may take long
    opened = open_recipe(recipe)
    scans = opened.sets.scans_of([])
    train, validation = split_subjects(opened.sets, scans, recipe.data.validation, recipe.seed)
    return prepare_split(opened, recipe, folder, train, validation, "train")


def prepare_finetuning(recipe: Recipe) -> PreparedRun:
    """As `prepare`.  Raises: InputError, also where the recipe names no checkpoint to start
    from."""
    if not recipe.init_from:
        raise InputError(
            "init_from is empty: finetuning starts from a checkpoint or run folder, "
            "for example init_from=runs/demo-pretrain"
        )
    return prepare(recipe)


def open_recipe(recipe: Recipe, source: Edges | None = None) -> Opened:
    """Open a recipe's data and, where it names one, the checkpoint to start from.

    Args:
        source: the same data's edges where they are open already.
    Raises: InputError where something is missing or damaged, or the parts do not fit together.
    """
    start = checkpoints.load(expand(recipe.init_from)) if recipe.init_from else None
    pretrained = (start.run, start.vocabulary) if start else None
    sets = open_sets(recipe.data, start.atlas if start else None, pretrained)
    tokens = tuple(target.n_tokens for target in sets.vocabulary.targets)
    model = resolve(recipe.model, sets.atlas.n_regions, tokens)
    phases = schedule(recipe.phases, sets.vocabulary, recipe.trainer.max_epochs)
    for name in recipe.objective.weights:
        sets.vocabulary[name]
    _check_pseudo_labels(recipe, phases, sets, start)
    _check_people_memory(recipe, sets)
    _check_lora(recipe, model)
    choose_hardware(recipe.trainer, model.width)
    check_loggers(recipe.trainer.loggers)
    if start:
        check_fit(recipe, sets, start)
        check_weights(start, model)
    edges = source or open_edges(sets, recipe.data.resident_gb)
    return Opened(recipe, sets, edges, start, model, phases)


def prepare_split(
    opened: Opened,
    recipe: Recipe,
    folder: Path,
    train: np.ndarray,
    validation: np.ndarray,
    label: str,
) -> PreparedRun:
    """One run on some of the opened scans.

    Args:
        recipe: the opened one, but for name and seed.
    Raises: InputError where a phase has nobody to train on, the folder holds another run, or the
        checkpoint to go on from saw other data, or the machine cannot hold it.
    """
    check_folder(recipe, folder)
    epoch_steps: list[int] = []
    for phase in opened.phases:
        scans = scans_to_train(opened.sets, train, phase.sets, phase.first_epoch)
        steps = BatchPlan(len(scans), recipe.trainer.global_batch).steps
        epoch_steps += [steps] * (phase.end_epoch - phase.first_epoch)
    hardware = choose_hardware(recipe.trainer, opened.model.width)
    resume = checkpoints.newest(folder / "checkpoints")
    if resume:
        saved = checkpoints.read_file(resume)
        state = saved["ConnectomeData"]
        _check_vocabulary(resume, saved["lcm"], opened.sets)
        check_state(state, recipe.seed, len(train), recipe.data.window, opened.sets.fingerprints)
    return PreparedRun(
        opened=opened,
        recipe=recipe,
        folder=folder,
        label=label,
        train=train,
        validation=validation,
        terms=loss_terms(recipe, opened.sets, train, opened.start),
        epoch_steps=tuple(epoch_steps),
        hardware=hardware,
        choice=_choice(recipe, folder, opened.model),
        resume=resume,
    )


def _choice(recipe: Recipe, folder: Path, model: LCMConfig) -> Choice:
    """How the run is spread.  Raises: InputError where nothing fits."""
    trainer = recipe.trainer
    machine = machine_here(trainer)
    before = settings_before(fact_of(folder, "plan"), machine, trainer)
    return choose(job_for(recipe, model), machine, trainer, before)


def loss_terms(
    recipe: Recipe, sets: ShardSets, train: np.ndarray, start: Checkpoint | None
) -> tuple[TargetLoss, ...]:
    """Weights of the targets, and a scalar's centre and scale: the checkpoint's, else raw, else
    from training scans."""
    terms = []
    for column, target in enumerate(sets.vocabulary.targets):
        weight = recipe.objective.weight(target.name, target.is_class)
        centre, scale = 0.0, 1.0
        known = sets.labels[train, column]
        known = known[np.isfinite(known)]
        known = np.log(known) if target.log else known
        if start and target.name in start.scalars:
            centre, scale = start.scalars[target.name]
        elif not target.is_class and recipe.objective.scalar_scale == "standardised" and len(known):
            centre, scale = float(known.mean()), max(float(known.std()), 1e-6)
        terms.append(TargetLoss(target, weight, centre, scale))
    return tuple(terms)


def _check_vocabulary(resume: Path, meaning: object, sets: ShardSets) -> None:
    """Versions up to 0.1.0 put the categories of a group that a later set widened in another order.

    Raises: InputError where the tokens of a checkpoint to go on from stand for other things.
    """
    old = Meaning.from_json(meaning, CHECKPOINT, str(resume)).vocabulary
    tokens = [(target.kind, target.categories, target.log) for target in old.targets]
    if tokens != [(t.kind, t.categories, t.log) for t in sets.vocabulary.targets]:
        raise InputError(
            f"{resume}: its categories stand in another order than this version gives them; go on "
            "with the version that began the run, or begin anew (init_from takes it as it is)"
        )


def _check_lora(recipe: Recipe, model: LCMConfig) -> None:
    """Raises: InputError where adapters have nothing to stand on, or would be no smaller than it;
    and where their settings are given and nobody asks for adapters."""
    optim, asked = recipe.optim, recipe.optim.trainable == "lora"
    if not asked and optim.lora != LoRAConfig():
        raise InputError(
            f"optim.lora: optim.trainable={optim.trainable} trains no adapters; set "
            "optim.trainable=lora, or leave optim.lora out"
        )
    if asked and not recipe.init_from:
        raise InputError(
            "optim.trainable=lora: adapters stand on weights that somebody trained; name them with "
            "init_from, or set optim.trainable=all"
        )
    if asked and not optim.lora.targets:
        raise InputError(
            "optim.lora.targets is empty: without adapters, that is optim.trainable=tokens"
        )
    sides = (model.width, *([model.ffn] if "ffn" in optim.lora.targets else []))
    if asked and optim.lora.rank >= min(sides):
        raise InputError(
            f"optim.lora.rank={optim.lora.rank}: not below {min(sides)}, the smaller side of the "
            "weights; set a lower rank, or optim.trainable=all"
        )


def _check_people_memory(recipe: Recipe, sets: ShardSets) -> None:
    if recipe.model.context and recipe.model.people_memory == "none":
        raise InputError(
            "model.context: people memory is what takes it; set model.people_memory=linear"
        )
    check_names(recipe.model.context, sets)
    for manifest in sets.manifests:
        if recipe.model.people_memory != "none" and manifest.kind not in CORRELATIONS:
            raise InputError(
                f"model.people_memory={recipe.model.people_memory}: a tangent space needs positive "
                f"definite matrices ({' or '.join(CORRELATIONS)}), and set {manifest.name} holds "
                f"{manifest.kind} ones; set model.people_memory=none"
            )


def _check_pseudo_labels(
    recipe: Recipe, phases: tuple[Phase, ...], sets: ShardSets, start: Checkpoint | None
) -> None:
    """Pseudo-labels are predictions, so a target that they are asked for must be learnt before.

    Raises: InputError, also where their threshold has nobody to be fitted on.
    """
    learnt = set(start.active) if start else set()
    fills = any(phase.pseudo_labels for phase in phases)
    if fills and recipe.pseudo.threshold == "fitted" and recipe.data.validation == 0:
        raise InputError(
            "pseudo.threshold=fitted: it is fitted on validation people, and data.validation=0 "
            "holds none back"
        )
    for phase in phases:
        unknown = [name for name in recipe.pseudo.targets if name not in learnt]
        if phase.pseudo_labels and unknown:
            raise InputError(
                f"pseudo.targets: phase {phase.name} cannot predict '{unknown[0]}'"
                f"{nearest(unknown[0], learnt)}; learnt before it: "
                f"{', '.join(sorted(learnt)) or 'nothing'}"
            )
        learnt |= {sets.vocabulary.names[number] for number in phase.active}
