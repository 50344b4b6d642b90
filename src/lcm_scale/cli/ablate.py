"""The verb of ablations: it parses and prints, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcm_scale.cli.show import (
    DryRun,
    Jobs,
    Overrides,
    RecipePath,
    command_line,
    print_next,
    start_makers,
)
from lcm_scale.cli.sweep import print_table
from lcm_scale.errors import InputError
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.report.ablation_page import Ablated
    from lcm_scale.sweep.variants import Ablation


def ablate(
    recipe: RecipePath,
    overrides: Overrides = None,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
) -> None:
    """Change one part of a recipe at a time, and say what each is worth.

    Every variant is evaluated on the same folds, and paired with the base. Stopped or killed, the
    same command goes on.
    """
    if jobs > 1 and not dry_run:
        start_makers()
    from lcm_scale.sweep.variants import open_ablation

    ablation = open_ablation(recipe, overrides or [])
    from lcm_scale.sweep import ablate as ablations

    if dry_run:
        ablations.check(ablation)
        _print_variants(ablation)
        print(f"inputs are in order; would write {ablation.folder}")
        return print_next(command_line("ablate", recipe, overrides))
    from lcm_scale.sweep import side_by_side

    outcome = side_by_side.run(ablation, jobs) if jobs > 1 else ablations.run(ablation)
    print(
        f"{ablation.folder}: {len(outcome.done)} runs done, {len(outcome.before)} were finished "
        "before"
    )
    if outcome.busy:
        print(f"left to another process: {'; '.join(outcome.busy)}")
    if ablations.is_finished(ablation, ablation.base):
        _print_found(ablations.collect(ablation), ablation)
    if outcome.failed:
        name, reason = outcome.failed[0]
        raise InputError(f"{len(outcome.failed)} runs failed, the first {name}: {reason}")
    if outcome.busy:
        print_next(command_line("ablate", recipe, overrides))
    else:
        print_next(f"lcm-scale inspect {ablation.folder_of(*ablation.runs[0])}")


def _print_variants(ablation: Ablation) -> None:
    from lcm_scale.report.ablation_page import changed
    from lcm_scale.sweep.ablate import unfinished

    seeds = ablation.recipe.seeds
    rows = [
        [v.name, changed(v.changes), f"{len(seeds) - len(unfinished(ablation, v))}/{len(seeds)}"]
        for v in ablation.variants
    ]
    title = f"{ablation.recipe.name}: {len(ablation.runs)} runs"
    print_table(title, ("variant", "what it changes", "finished"), rows)


def _print_found(found: Ablated, ablation: Ablation) -> None:
    from lcm_scale.report import ablation_page, wording

    for table in found.tables:
        counted = table.counted
        people = f"{counted.n_scans} predictions of {counted.n_subjects} people"
        marks = "".join(f", {word}" for word in wording.marks(found.simulated, table.confounded))
        seeds = f"seeds {', '.join(map(str, found.seeds))}"
        columns = ("variant", table.label, "minus base, paired", seeds, "")
        title = f"{table.target} ({people}{marks})"
        print_table(title, columns, ablation_page.table_rows(table))
    print(ablation_page.verdict(found))
    for line in ablation_page.remarks(found):
        print(line)
    print(f"report: {ablation_page.write(found, ablation.folder)}")
