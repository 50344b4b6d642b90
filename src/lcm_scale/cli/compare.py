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
        Path | None, typer.Option("--out", "-o", help="Write compare.csv and compare.json there.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=1, help="Resamples of people.")] = 2000,
) -> None:
    """The second of two evaluated runs less the first, paired over people.

    Both must have been evaluated on the same folds of the same scans.
    """
    from lcm_scale.csv_text import csv_text
    from lcm_scale.evaluation import compare as comparing
    from lcm_scale.files import write_atomic

    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder")
    found = comparing.compare(run_a, run_b, bootstrap)
    _print_found(found, run_a.name, run_b.name)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{out}: cannot be made ({error.strerror})") from error
        write_atomic(out / "compare.csv", csv_text(comparing.rows_of(found)).encode())
        write_atomic(out / "compare.json", comparing.as_json(found, run_a, run_b).encode())
        print(f"written: {out / 'compare.csv'}, {out / 'compare.json'}")
    print_next(f"lcm-scale inspect {run_b}")


def _print_found(found: Compared, first: str, second: str) -> None:
    for target in dict.fromkeys(row.target for row in found.rows):
        rows = [row for row in found.rows if row.target == target]
        counted = rows[0].difference
        marks = ", SIMULATED" * found.simulated + ", OPTIMISTIC" * bool(found.optimistic)
        print_table(
            f"{target} ({counted.n_scans} predictions of {counted.n_subjects} people{marks})",
            ("metric", first, second, "second minus first, paired", ""),
            [
                [
                    row.metric + " (decides)" * row.deciding,
                    f"{row.first.value:.3f}",
                    f"{row.second.value:.3f}",
                    f"{row.difference.value:+.3f} [{row.difference.low:+.3f}, "
                    f"{row.difference.high:+.3f}]",
                    "" if row.standing == "level" else row.standing,
                ]
                for row in rows
            ],
        )
    for row in found.rows:
        if row.deciding:
            print(_sentence(row.target, row.standing, row.metric, first, second))
    if found.left_out:
        print(f"in one of the two alone: {', '.join(found.left_out)}")
    print(
        f"{len(found.rows)} differences were looked at; intervals are over people, seeds and folds "
        "are not in them"
    )


def _sentence(target: str, standing: str, metric: str, first: str, second: str) -> str:
    if standing == "level":
        return f"{target}: no difference in {metric} can be shown"
    return f"{target}: {second} is {standing} than {first} in {metric}"
