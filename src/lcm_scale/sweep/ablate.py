"""Running an ablation: every variant and seed evaluated by the base's own protocol, then paired.

A run is an ordinary evaluation in a folder of its own, which goes on where it was stopped; one that
is finished is never run again. Two calls of one ablation share the work: a run that another process
is at is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lcm_scale import progress
from lcm_scale.config import Recipe, dump
from lcm_scale.data.manifest import read_manifest
from lcm_scale.data.sets import set_folder
from lcm_scale.errors import InputError
from lcm_scale.evaluation.crossvalidate import evaluate
from lcm_scale.evaluation.intervals import Draws, resampled
from lcm_scale.evaluation.paired import compared
from lcm_scale.evaluation.plain import Beside
from lcm_scale.evaluation.prepare import prepare_evaluation
from lcm_scale.files import write_atomic
from lcm_scale.lock import InUse
from lcm_scale.report.ablation_page import Ablated, Row, TargetTable
from lcm_scale.report.write import write_report
from lcm_scale.sweep import answers
from lcm_scale.sweep.answers import Asked
from lcm_scale.sweep.variants import Ablation, Variant
from lcm_scale.terminal import print
from lcm_scale.training.folder import check_evaluation


@dataclass(frozen=True)
class Outcome:
    """What a call of `run` came to: runs by name, and (name, reason) of those that failed."""

    done: tuple[str, ...]
    before: tuple[str, ...]
    busy: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


def check(ablation: Ablation) -> None:
    """See that every run can be made and all can be compared; nothing is written.

    Raises: InputError naming the variant.
    """
    of_base = ""
    with progress.stage("check the variants", len(ablation.variants), aside=True) as advance:
        for variant in ablation.variants:
            try:
                mark = _checked(ablation, variant)
            except InputError as error:
                raise InputError(f"variant '{variant.name}': {error}") from error
            of_base = of_base or mark
            if mark and mark != of_base:
                raise InputError(
                    f"variant '{variant.name}': its folds are not the base's, so that the two "
                    "cannot be compared; it may change how a model is trained, not who is held out"
                )
            advance()


def _checked(ablation: Ablation, variant: Variant) -> str:
    """The mark of a variant's folds, '' where another process is at all of them.

    Raises: InputError where one of its runs cannot be made.
    """
    mark = ""
    for seed in ablation.recipe.seeds:
        recipe, folder = ablation.recipe_of(variant, seed), ablation.folder_of(variant, seed)
        if answers.is_finished(folder):
            check_evaluation(recipe, folder, _fingerprints(recipe))
            mark = mark or answers.read_mark(folder)
        elif not mark:  # seeds differ in nothing that could be wrong, but for their folders
            with suppress(InUse):  # what runs is in order
                mark = answers.mark_of(prepare_evaluation(recipe))
        else:
            with suppress(InUse):
                check_evaluation(recipe, folder, _fingerprints(recipe))
    return mark


def _fingerprints(recipe: Recipe) -> dict[str, str]:
    folders = [set_folder(name, recipe.data.shards_dir) for name in recipe.data.sets]
    return {m.name: m.fingerprint for m in map(read_manifest, folders)}


def unfinished(ablation: Ablation, variant: Variant) -> list[Path]:
    """Folders of a variant's runs that are not done."""
    folders = [ablation.folder_of(variant, seed) for seed in ablation.recipe.seeds]
    return [folder for folder in folders if not answers.is_finished(folder)]


def is_finished(ablation: Ablation, variant: Variant) -> bool:
    return not unfinished(ablation, variant)


def run(ablation: Ablation) -> Outcome:
    """Run what is not finished, all of it checked before.

    Raises: InputError where something is wrong before anything runs; Stopped where a signal ended
        it.
    """
    before, left = begin(ablation)
    done, busy, failed = [], [], []
    label, total = f"ablation {ablation.recipe.name}", len(ablation.runs)
    with progress.stage(label, total, len(before)) as advance:
        for number, (name, recipe) in enumerate(left.items(), len(before) + 1):
            print(f"run {number} of {total}: {name}", flush=True)
            try:
                run_one(recipe)
                done.append(name)
            except InUse:
                busy.append(name)
            except InputError as error:  # such as a loss that became no number: the others go on
                failed.append((name, str(error)))
            advance()
    return Outcome(tuple(done), before, tuple(busy), tuple(failed))


def begin(ablation: Ablation) -> tuple[tuple[str, ...], dict[str, Recipe]]:
    """Check everything, and make the folder.

    Returns: names of runs that are finished, and by name the recipes of those that are not.
    Raises: InputError where something is wrong.
    """
    check(ablation)
    write_atomic(ablation.folder / "ablation.yaml", dump(ablation.recipe).encode())
    before, left = [], {}
    for variant, seed in ablation.runs:
        name = f"{variant.name}, seed {seed}"
        if answers.is_finished(ablation.folder_of(variant, seed)):
            before.append(name)
        else:
            left[name] = ablation.recipe_of(variant, seed)
    return tuple(before), left


def run_one(recipe: Recipe, beside: Beside | None = None) -> None:
    """One run, with its own report.

    Args: beside: what plain models answer, where that is known already.
    Raises: InputError, InUse, Stopped.
    """
    prepared = prepare_evaluation(recipe)
    report = evaluate(prepared, beside)
    write_report(report, prepared.folder)
    answers.write(prepared, report)


# -- what came out ---------------------------------------------------------------------------------


def collect(ablation: Ablation) -> Ablated:
    """Pair every finished variant with the base.

    Raises: InputError where the base is not finished, or runs are of other folds.
    """
    finished = [v for v in ablation.variants if is_finished(ablation, v)]
    if ablation.base not in finished:
        raise InputError(f"{ablation.folder}: the base is not finished, nothing can be compared")
    seeds = ablation.recipe.seeds
    read = {
        variant.name: [answers.read(ablation.folder_of(variant, seed)) for seed in seeds]
        for variant in finished
    }
    base = read[ablation.base.name]
    for name, of_seeds in read.items():
        if {one.mark for one in of_seeds} != {base[0].mark}:
            raise InputError(
                f"{ablation.folder / name}: its folds are not those of the base; {answers.AGAIN}"
            )
    config = ablation.base.recipe.evaluate
    tables = []
    for asked in base[0].targets:
        by_variant = {
            name: [
                found for one in of_seeds for found in one.targets if found.target == asked.target
            ]
            for name, of_seeds in read.items()
        }
        tables.append(_table(asked, by_variant, config.bootstrap, config.seed))
    return Ablated(
        title=ablation.recipe.title or ablation.recipe.name,
        simulated=any(one.simulated for of_seeds in read.values() for one in of_seeds),
        folds=config.folds,
        fold_seed=config.seed,
        seeds=tuple(seeds),
        tables=tuple(tables),
        changes={variant.name: variant.changes for variant in ablation.variants},
        missing=tuple(v.name for v in ablation.variants if v not in finished),
    )


def _table(
    asked: Asked, by_variant: Mapping[str, list[Asked]], bootstrap: int, seed: int
) -> TargetTable:
    """One target. The model stands first among its answers, the baselines, which are the base's,
    behind it.

    Args: by_variant: a variant's answers, one a seed; none where it does not evaluate the target.
    """
    ours = next(iter(asked.models))
    draws: dict[str, list[Draws]] = {
        name: [resampled(found.models[ours], bootstrap, seed) for found in of_seeds]
        for name, of_seeds in by_variant.items()
        if of_seeds
    }
    base = next(iter(draws.values()))
    rows = [Row(name, False, compared(of_seeds, base)) for name, of_seeds in draws.items()]
    rows += [
        Row(name, True, compared([resampled(predictions, bootstrap, seed)], base))
        for name, predictions in asked.models.items()
        if name != ours
    ]
    first = asked.models[ours]
    return TargetTable(
        target=asked.target,
        kind=first.kind,
        deciding=asked.deciding,
        confounded=asked.confounded,
        unit=asked.unit,
        rows=tuple(rows),
    )
