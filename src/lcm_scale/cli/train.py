"""The verbs of training and evaluation: pretrain, finetune, evaluate, doctor."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from lcm_scale.cli.show import (
    DryRun,
    Jobs,
    Overrides,
    RecipePath,
    command_line,
    load_recipe,
    print_next,
    print_once,
    print_pairs,
    print_plan,
    start_makers,
)
from lcm_scale.errors import InputError
from lcm_scale.ranks import is_first
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.config import Recipe
    from lcm_scale.data.sets import ShardSets
    from lcm_scale.evaluation.prepare import PreparedEvaluation
    from lcm_scale.evaluation.results import Report
    from lcm_scale.training.prepare import PreparedRun


def pretrain(recipe: RecipePath, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Pretrain a model on shard sets.

    A run that was stopped goes on where its newest checkpoint stands.
    """
    composed = load_recipe(recipe, overrides)
    from lcm_scale.training.prepare import prepare

    prepared = prepare(composed)
    _print_audit(prepared.opened.sets)
    if dry_run:
        notes = _notes(prepared)
        return print_plan("pretrain", composed, prepared.folder, recipe, overrides, notes)
    from lcm_scale.training.trained import trained

    _say_plan(prepared)
    trained(prepared)
    print_once(f"run folder: {prepared.folder}")
    print_next(f"lcm-scale finetune RECIPE init_from={prepared.folder}")


def finetune(recipe: RecipePath, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Finetune a pretrained model on new labels.

    Pseudo-labels stand in for missing targets where the recipe asks for them.
    """
    composed = load_recipe(recipe, overrides)
    from lcm_scale.training.prepare import prepare_finetuning

    prepared = prepare_finetuning(composed)
    if dry_run:
        notes = _notes(prepared)
        return print_plan("finetune", composed, prepared.folder, recipe, overrides, notes)
    from lcm_scale.training.trained import trained

    _say_plan(prepared)
    trained(prepared)
    print_once(f"run folder: {prepared.folder}")
    print_next(command_line("evaluate", recipe, overrides))


def evaluate(
    recipe: RecipePath,
    overrides: Overrides = None,
    jobs: Jobs = 1,
    together: Annotated[
        int,
        typer.Option(min=1, help="Models that train as one batched model, in this process."),
    ] = 1,
    fold: Annotated[
        int | None,
        typer.Option(min=1, help="Train this fold's models alone; the last one reports."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Cross-validate by subject, beside baselines, and report."""
    composed = load_recipe(recipe, overrides)
    if fold is not None and jobs > 1:
        raise InputError("--fold and --jobs exclude each other: a fold's models train one by one")
    if together > 1 and (fold is not None or jobs > 1):
        other = "--jobs" if jobs > 1 else "--fold"
        raise InputError(f"--together and {other} exclude each other: leave one of them out")
    if jobs > 1 and not dry_run:
        start_makers()
    from lcm_scale.evaluation.prepare import asked_of, prepare_evaluation

    if dry_run and fold is not None:
        folder = asked_of(composed).folder
        return print_plan("evaluate", composed, folder, recipe, overrides, [])
    if fold is not None:
        return _evaluate_fold(composed, fold)
    prepared = prepare_evaluation(composed)
    if together > 1:
        from lcm_scale.evaluation.as_one import check_as_one, evaluate_as_one

        check_as_one(prepared)
    if dry_run:
        notes = [note for of_fold in prepared.runs[:1] for note in _notes(of_fold[0])]
        return print_plan("evaluate", composed, prepared.folder, recipe, overrides, notes)
    from lcm_scale.evaluation.side_by_side import evaluate_side_by_side

    for of_fold in prepared.runs[:1]:
        _say_plan(of_fold[0])
    if together > 1:
        return _report(*evaluate_as_one(prepared, together))
    if jobs > 1:
        return _report(*evaluate_side_by_side(prepared, jobs))
    _report(prepared)


def _evaluate_fold(composed: Recipe, fold: int) -> None:
    """One of several tasks, each of which trains a fold; the last one reports."""
    from lcm_scale.evaluation.prepare import prepare_evaluation
    from lcm_scale.evaluation.side_by_side import train_fold
    from lcm_scale.lock import InUse

    last = train_fold(composed, fold)
    if last:
        # Two tasks may both come last: one of them takes the evaluation's lock.
        with suppress(InUse):
            return _report(prepare_evaluation(composed))
    print(f"fold {fold} is trained; whoever trains the last one writes the report")


def _report(prepared: PreparedEvaluation, report: Report | None = None) -> None:
    """Write what is found.  Args: report: where it is known already."""
    from lcm_scale.evaluation.crossvalidate import evaluate as cross_validate
    from lcm_scale.evaluation.final import train_final
    from lcm_scale.report.write import write_report

    page = write_report(report or cross_validate(prepared), prepared.folder)
    model = train_final(prepared)
    print(f"report: {page}")
    if model is not None:
        print(f"model of everybody: {model}")
        return print_next(f"lcm-scale predict {prepared.folder} SCANS -o predictions.csv")
    print_next(f"lcm-scale inspect {prepared.folder}")


def _notes(prepared: PreparedRun) -> list[str]:
    """How the run is spread; what people memory will take, and whom it leaves out."""
    plan = prepared.choice.text
    if prepared.recipe.model.people_memory == "none":
        return [plan]
    from lcm_scale.linear import size
    from lcm_scale.training.remember import remembered, sentence

    sets = prepared.opened.sets
    taken = size.sentence(len(remembered(prepared)), sets.atlas.n_regions)
    return [plan, taken, *filter(None, [sentence(prepared)])]


def _say_plan(prepared: PreparedRun) -> None:
    if not prepared.choice.is_usual:
        print_once(prepared.choice.text)


def _print_audit(sets: ShardSets) -> None:
    """A mix of sets asks more than its recipe shows."""
    from lcm_scale.data.audit import audit

    if is_first() and len(sets.manifests) > 1:
        print_pairs(audit(sets))


def doctor(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Check machine, disk, shards and network before a run.

    Under srun every rank checks its own place, and all meet in one all-reduce.
    """
    composed = load_recipe(recipe, overrides)
    from lcm_scale.cost import doctor as pre_flight

    findings = pre_flight.examine(composed)
    bad = pre_flight.failed(findings)
    if is_first() or bad:
        print(pre_flight.report(findings), flush=True)
    if bad:
        raise InputError(f"not ready: {', '.join(bad)}")
    print_next(command_line("pretrain", recipe, overrides))
