"""The verb `predict`: it parses and prints, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lcm_scale.cli.show import DryRun, Overrides, print_next
from lcm_scale.errors import InputError
from lcm_scale.terminal import print

if TYPE_CHECKING:
    from lcm_scale.inference.asked import Model
    from lcm_scale.inference.incoming import Incoming


def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run, a checkpoint, an exported folder or OWNER/NAME."
        ),
    ],
    scans: Annotated[
        Path,
        typer.Argument(metavar="SCANS", help="A folder or table, a shard recipe, or a shard set."),
    ],
    overrides: Overrides = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.csv", help="A JSON file goes beside it.")
    ] = Path("predictions.csv"),
    ids: Annotated[
        bool, typer.Option("--ids", help="Your own ids beside the hashes, for your eyes alone.")
    ] = False,
    reorder: Annotated[
        bool, typer.Option("--reorder", help="Take the same regions in another order.")
    ] = False,
    accept_kind: Annotated[
        bool, typer.Option("--accept-kind", help="Take another kind of connectivity.")
    ] = False,
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="What exported adapters stand on.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that read files.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Ask a model about scans that nobody has labelled.

    A row a scan: probabilities and values, how far the scan is from the training people, how good
    it is. Research software, no diagnosis.
    """
    if out.suffix != ".csv" or out.is_dir():
        raise InputError(f"--out {out}: name a file that ends in .csv")
    from lcm_scale.files import check_writable, write_atomic
    from lcm_scale.inference import asked, incoming
    from lcm_scale.inference.predictions import predictions

    check_writable(out)
    opened = asked.opened(model, base)
    found = incoming.listed(scans, overrides or [], opened.meaning)
    if ids and isinstance(found, incoming.Shards):
        raise InputError(f"--ids: {scans} is a shard set, which holds hashed ids alone")
    order = asked.check_fits(opened.meaning, found.kept, reorder, accept_kind)
    if dry_run:
        print(f"inputs are in order: {found.kept.name}; would write {out}")
        return
    read = incoming.read(found, opened.meaning, jobs)
    edges = read.edges if order is None else read.edges[:, order]
    answers = asked.ask(opened, edges, read.told)
    table, about = predictions(opened, found.kept, read, edges, answers, ids)
    beside = out.with_suffix(".json")
    write_atomic(beside, about.encode())
    write_atomic(out, table.encode())
    _say(opened, read)
    print(f"predictions: {out}, what they are: {beside}")
    print("research software: no diagnosis")
    if opened.run is not None:
        print_next(f"lcm-scale inspect {model}")
    else:
        imported = f"hub {model}" if base is None else f"adapters {model} {base}"
        print_next(f"lcm-scale import {imported} RUN")


def _say(model: Model, scans: Incoming) -> None:
    """What is not in the table."""
    from lcm_scale.data.skipped import report_skipped

    report_skipped("predict", scans.skipped)
    if model.meaning.cohort is None:
        print(
            "the model knows nothing of its training people as a whole, so the table has no "
            "distance from them; one that this version trains does"
        )
