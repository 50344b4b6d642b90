"""The verb that compares two runs: it parses and prints, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lcm_scale.cli.show import print_next
from lcm_scale.cli.sweep import print_table
from lcm_scale.errors import InputError
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.evaluation.compare import Compared

Run = Annotated[Path, typer.Argument(help="The folder of an evaluated run.")]


def compare(
    run_a: Run,
    run_b: Run,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write compare.html, its pictures, CSV and JSON there."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=1, help="Resamples of people.")] = 2000,
) -> None:
    """The second of two evaluated runs less the first, paired over people.

    Both must have been evaluated on the same folds. Whoever is in one of them alone is left out,
    and counted.
    """
    from lcm_scale.evaluation import compare as comparing

    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder")
    found = comparing.compare(run_a, run_b, bootstrap)
    _print_found(found)
    if out is not None:
        from lcm_scale.report import compare_page

        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{out}: cannot be made ({error.strerror})") from error
        print(f"report: {compare_page.write(found, out)}")
    print_next(f"lcm-scale inspect {run_b}")


def _print_found(found: Compared) -> None:
    from lcm_scale.report import compare_page, wording

    for target, told in found.targets.items():
        counted = found.of(target)[0].difference
        marks = wording.marks(found.simulated, told.confounded, found.optimistic)
        marked = "".join(f", {word}" for word in marks)
        print_table(
            f"{target} ({counted.n_scans} predictions of {counted.n_subjects} people{marked})",
            ("metric", found.first, found.second, "second minus first, paired", ""),
            [
                [
                    row.metric + " (decides)" * row.deciding,
                    wording.digits(row.first.value, found.kind(row)),
                    wording.digits(row.second.value, found.kind(row)),
                    wording.show(row.difference, found.kind(row), signed=True),
                    "" if row.standing == "level" else row.standing,
                ]
                for row in found.of(target)
            ],
        )
    for row in found.deciding:
        said = compare_page.verdict(found, row)
        print(said.sentence if row.standing == "level" else f"{said.sentence} {said.detail}")
    for line in [*compare_page.differing(found), *compare_page.remarks(found)]:
        print(line)
