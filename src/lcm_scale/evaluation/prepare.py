"""An evaluation made ready: data opened, questions and folds known, every fold's run prepared.

As `training.prepare`, and with the same promise: what can fail because of the user fails here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lcm_scale.config import Recipe, expand
from lcm_scale.config.run import LARGEST_SEED, SCRATCH
from lcm_scale.data.given import known_names
from lcm_scale.data.kin import grouped
from lcm_scale.data.sets import ShardSets, split_subjects
from lcm_scale.errors import InputError
from lcm_scale.evaluation.baselines import BASELINES, TOLD, check_baselines
from lcm_scale.evaluation.folds import Fold
from lcm_scale.evaluation.harmonise import check_harmonise
from lcm_scale.evaluation.offered import plan_of_plugin, use_metrics
from lcm_scale.evaluation.permutation import check_permutations
from lcm_scale.evaluation.protocols import PROTOCOLS, external
from lcm_scale.evaluation.protocols.label_counts import Labelled, draws_of, hidden
from lcm_scale.evaluation.protocols.plan import Plan
from lcm_scale.evaluation.questions import Question
from lcm_scale.evaluation.scratch import check_scratch, without_pretraining
from lcm_scale.evaluation.units import check_unit
from lcm_scale.evaluation.validation_people import check_conformal, require_validation
from lcm_scale.lock import check_free
from lcm_scale.plugins import load_function
from lcm_scale.training.folder import check_evaluation, run_folder
from lcm_scale.training.prepare import Opened, PreparedRun, open_recipe, prepare_split
from lcm_scale.training.transfer import check_kinds
from lcm_scale.weights import checkpoints
from lcm_scale.weights.checkpoints import OF_EVERYBODY, Checkpoint

# Beside a run's own lock: a finetuned run and its evaluation share the folder, not the files.
LOCK = ".evaluate.lock"


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation, ready to run.

    Attributes:
        fixed: the model that is evaluated as it is; None where each fold trains its own.
        plan: who is trained on and tested, and what is asked.
        runs: of each fold one a repeat; empty for a fixed model.
        draws: one a count, draw and fold where the headline is asked with few labels, in this
            order.
        scratch: as `runs`, of the models without pretraining; empty where nobody asks for them.
        final: a model of everybody, where the recipe asks for one.
    """

    opened: Opened
    folder: Path
    fixed: Checkpoint | None
    plan: Plan
    runs: tuple[tuple[PreparedRun, ...], ...]
    draws: tuple[tuple[Labelled, PreparedRun], ...] = ()
    scratch: tuple[tuple[PreparedRun, ...], ...] = ()
    final: PreparedRun | None = None

    @property
    def scans(self) -> np.ndarray:
        """Numbers of the scans that the folds speak of."""
        return self.plan.scans

    @property
    def questions(self) -> tuple[Question, ...]:
        """The headline first."""
        return self.plan.questions

    @property
    def folds(self) -> tuple[Fold, ...]:
        """Positions in `scans`."""
        return self.plan.folds

    @property
    def recipe(self) -> Recipe:
        return self.opened.recipe

    @property
    def context(self) -> tuple[str, ...]:
        """What the model is told of a scan beside its matrix; so is the baseline `TOLD`."""
        if self.fixed is not None:
            there = known_names(self.opened.sets)
            return tuple(column.name for column in self.fixed.context if column.name in there)
        return tuple(self.recipe.model.context)

    @property
    def baselines(self) -> tuple[str, ...]:
        """The recipe's plain ones, and one that is told what the model is told."""
        asked = [name for name in self.recipe.evaluate.baselines if name != SCRATCH]
        return (*asked, *([TOLD] if self.context and "tangent" in asked else []))

    @property
    def training(self) -> list[np.ndarray]:
        """Of each fold, the scans that its model trains on (of a fixed model: would)."""
        if self.runs:
            return [of_fold[0].train for of_fold in self.runs]
        return [self.scans[fold.train] for fold in self.folds]


def prepare_evaluation(recipe: Recipe) -> PreparedEvaluation:
    """Open and check everything that an evaluation needs.  Raises: InputError."""
    check_free(run_folder(recipe) / LOCK)
    asked = asked_of(recipe)
    opened, folder, fixed, plan = asked.opened, asked.folder, asked.fixed, asked.plan
    runs = _prepare_folds(opened, folder, plan) if fixed is None else ()
    draws = tuple(
        (drawn, prepare_draw(opened, folder, plan, drawn))
        for drawn in draws_of(recipe, opened.sets, plan)
    )
    scratch: tuple[tuple[PreparedRun, ...], ...] = ()
    if SCRATCH in recipe.evaluate.baselines:
        scratch = _prepare_folds(open_scratch(recipe), folder / SCRATCH, plan)
    final = prepare_final(opened, folder) if recipe.evaluate.final else None
    prepared = replace(asked, runs=runs, draws=draws, scratch=scratch, final=final)
    if recipe.evaluate.harmonise != "none":
        check_harmonise(opened, plan.scans, plan.folds, prepared.training, plan.questions)
    return prepared


def asked_of(recipe: Recipe) -> PreparedEvaluation:
    """The same without its runs: what is asked, of whom.  Raises: InputError."""
    for name in recipe.evaluate.baselines:
        if name not in (*BASELINES, SCRATCH):
            _check_baseline_of_plugin(name, recipe)
    use_metrics(recipe)
    check_scratch(recipe)
    folder = run_folder(recipe)
    check_evaluation(recipe, folder)  # before data are read, which may take long
    fixed = _fixed_model(recipe)
    opened = _open(recipe)
    sets = opened.sets
    check_evaluation(recipe, folder, sets.fingerprints)
    if fixed is not None and fixed.atlas.indices != sets.atlas.indices:
        raise InputError(
            f"{fixed.path}: knows the regions in the order {fixed.atlas.checksum}, the data are in "
            f"{sets.atlas.checksum}; start from it with init_from and data.reorder=true"
        )
    if fixed is not None:
        check_kinds(fixed, sets, recipe.data.mix_kinds)
    if fixed is None:
        protocol = recipe.evaluate.protocol
        built_in = PROTOCOLS.get(protocol)
        plan = built_in(recipe, sets) if built_in else plan_of_plugin(protocol, recipe, sets)
    else:
        plan = external.plan_of_fixed(recipe, sets, fixed)
    check_unit(recipe.evaluate.unit, sets, plan.tested, plan.questions)
    check_permutations(recipe, sets, plan.tested)
    if recipe.evaluate.calibration != "none":
        key = f"evaluate.calibration={recipe.evaluate.calibration}"
        require_validation(recipe, plan, fixed is not None, key)
    if recipe.evaluate.conformal:
        key = f"evaluate.conformal={recipe.evaluate.conformal:g}"
        require_validation(recipe, plan, fixed is not None, key)
        check_conformal(recipe, sets, plan)
    check_baselines(recipe.evaluate.baselines, sets.kinds_of(plan.scans), "evaluate.baselines")
    for model in (opened.start, fixed):
        refuse_overlap(model, sets, plan.tested)
    return PreparedEvaluation(opened, folder, fixed, plan, ())


def open_scratch(recipe: Recipe) -> Opened:
    """The data of the models without pretraining."""
    return _open(without_pretraining(recipe))


def _check_baseline_of_plugin(name: str, recipe: Recipe) -> None:
    """Raises: InputError where nobody offers it, it cannot be imported, or sites' effects would
    have to be taken out of features that are its own."""
    load_function("baselines", name)
    if recipe.evaluate.harmonise != "none":
        raise InputError(
            f"evaluate.baselines={name}: under evaluate.harmonise={recipe.evaluate.harmonise} the "
            "effects of sites are taken out of the built-in baselines' features alone; leave it out"
        )


def _open(recipe: Recipe) -> Opened:
    """The recipe's data, and who is kept together in them."""
    opened = open_recipe(recipe)
    if not recipe.evaluate.group:
        return opened
    return replace(opened, sets=grouped(opened.sets, recipe.evaluate.group, "evaluate.group"))


def _prepare_folds(opened: Opened, folder: Path, plan: Plan) -> tuple[tuple[PreparedRun, ...], ...]:
    """Of each fold one a repeat."""
    repeats = range(opened.recipe.evaluate.repeats)
    return tuple(
        tuple(prepare_fold(opened, folder, plan, number, repeat) for repeat in repeats)
        for number in range(1, len(plan.folds) + 1)
    )


def prepare_fold(opened: Opened, folder: Path, plan: Plan, number: int, repeat: int) -> PreparedRun:
    """One model; nobody of the fold's test or validation people is among its training scans, in any
    set."""
    recipe = opened.recipe
    name = f"fold-{number}" + (f"-seed-{repeat + 1}" if recipe.evaluate.repeats > 1 else "")
    run = prepare_split(
        opened,
        replace(
            recipe, name=f"{recipe.name}/{name}", seed=_seed(plan, number, repeat, recipe.seed)
        ),
        folder / "folds" / name,
        *_people_of(opened.sets, plan, number),
        f"fold {number}/{len(plan.folds)}",
    )
    keep = recipe.evaluate.calibration != "none" or recipe.evaluate.conformal > 0
    return replace(run, by_target=bool(plan.optimistic), keep_unseen=keep)


def prepare_final(opened: Opened, folder: Path) -> PreparedRun:
    """One model on everybody, as `pretrain` and `finetune` would train it: of all people the
    recipe's share chooses the epoch, then people memory is fitted on all of them."""
    recipe, sets = opened.recipe, opened.sets
    if recipe.evaluate.checkpoint is not None or recipe.evaluate.harmonise != "none":
        key = "checkpoint" if recipe.evaluate.checkpoint is not None else "harmonise"
        raise InputError(
            f"evaluate.final and evaluate.{key} exclude each other: "
            + (
                "a fixed model is not trained; ask it itself"
                if key == "checkpoint"
                else "a new person's matrix cannot be harmonised with the training sites"
            )
        )
    run = prepare_split(
        opened,
        replace(recipe, name=f"{recipe.name}/{OF_EVERYBODY}"),
        folder / OF_EVERYBODY,
        *split_subjects(sets, sets.scans_of([]), recipe.data.validation, recipe.seed),
        "model of everybody",
    )
    return replace(run, keep_unseen=recipe.evaluate.calibration != "none")


def prepare_draw(opened: Opened, folder: Path, plan: Plan, drawn: Labelled) -> PreparedRun:
    """As a fold's model, with the headline's label of some people alone and a seed of its own."""
    recipe, number = opened.recipe, drawn.fold + 1
    labels = hidden(opened.sets, plan.questions[0], drawn.kept)
    name = f"labels-{drawn.count}/draw-{drawn.draw + 1}-fold-{number}"
    seed = (recipe.seed + 1_000_000 * (drawn.draw + 1)) % (LARGEST_SEED + 1)
    return prepare_split(
        replace(opened, sets=replace(opened.sets, labels=labels)),
        replace(recipe, name=f"{recipe.name}/{name}", seed=seed),
        folder / name,
        *_people_of(opened.sets, plan, number),
        f"{drawn.count} labels, draw {drawn.draw + 1}, fold {number}/{len(plan.folds)}",
    )


def _people_of(sets: ShardSets, plan: Plan, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the scans that train a fold's model, and of those that choose its epoch.

    Args: number: the fold's, from 1.
    """
    scans, fold = plan.scans, plan.folds[number - 1]
    held = sets.together[np.concatenate([scans[fold.test], scans[fold.validation]])]
    others = np.setdiff1d(sets.scans_of([]), scans)
    others = others[~np.isin(sets.together[others], held)]
    return np.sort(np.concatenate([scans[fold.train], others])), scans[fold.validation]


def _seed(plan: Plan, number: int, repeat: int, first: int) -> int:
    """Of a model: another one for each repeat and for each division into folds.

    Args: number: the fold's, from 1.   first: the recipe's.
    """
    division = plan.rounds[number - 1] if plan.rounds else 0
    return (first + 1000 * repeat + 100_000 * division) % (LARGEST_SEED + 1)


def _fixed_model(recipe: Recipe) -> Checkpoint | None:
    if recipe.evaluate.checkpoint is None:
        return None
    if recipe.init_from:
        raise InputError(
            "evaluate.checkpoint and init_from exclude each other: a fixed model is not trained "
            "further"
        )
    if recipe.evaluate.protocol not in ("nested", "external"):
        raise InputError(
            f"evaluate.checkpoint and evaluate.protocol={recipe.evaluate.protocol} exclude each "
            "other: a fixed model is not trained, so that it is read once on all people of the "
            "evaluated set (external)"
        )
    if recipe.evaluate.harmonise != "none":
        raise InputError(
            "evaluate.checkpoint and evaluate.harmonise exclude each other: a fixed model knows "
            "matrices as they are"
        )
    return checkpoints.load(expand(recipe.evaluate.checkpoint))


def refuse_overlap(model: Checkpoint | None, sets: ShardSets, scans: np.ndarray) -> None:
    """Pretraining is supervised on diagnosis: whoever it saw cannot be evaluated."""
    if model is None:
        return
    near = np.flatnonzero(np.isin(sets.together, sets.together[scans]))
    people = sets.subject_hashes(near)
    seen = model.subjects & set(people)
    if seen:
        kin = " or are kept together with them (evaluate.group)" if sets.groups is not None else ""
        raise InputError(
            f"{model.path}: saw {len(seen)} of the {len(people)} people that would be "
            f"evaluated{kin}; pretrain on other people, or drop init_from so that every fold "
            "trains from scratch"
        )
