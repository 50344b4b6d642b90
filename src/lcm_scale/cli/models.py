"""The verbs of weights: import, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lcm_scale.cli.show import print_next
from lcm_scale.errors import InputError


def import_(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... RUN",
            help="A folder or hub repository that export made; or the published model's pair: BACKBONE (with lin.0 and lin.1), "
            "HEAD (object_query, decoder) and GROUPS (YAML, group: [categories in token order, N/A first], a line a group). "
            "Then the run folder to write.",
        ),
    ],
    revision: Annotated[str, typer.Option(help="Of a repository.")] = "",
    atlas: Annotated[
        str,
        typer.Option(
            help="Pair: the region order that the weights saw, a built-in name or a file."
        ),
    ] = "aal116",
    readout: Annotated[
        str, typer.Option(help="Pair: adaptive (mixed runs), last (single-set runs) or mean.")
    ] = "adaptive",
    heads: Annotated[
        int, typer.Option(help="Pair: of the attention, which the files do not say.")
    ] = 8,
) -> None:
    """Turn weights from elsewhere into a checkpoint, to finetune or evaluate."""
    *sources, last = words
    run = Path(last)
    if len(sources) == 1:
        from lcm_scale.weights.hub import import_hub

        path = import_hub(sources[0], run, revision or None)
    elif len(sources) == 3:
        from lcm_scale.weights.plain import import_official

        backbone, head, groups = map(Path, sources)
        path = import_official(backbone, head, groups, atlas, run, readout, heads)
    else:
        raise InputError("import: expected FOLDER RUN or BACKBONE HEAD GROUPS RUN")
    print(f"checkpoint: {path}")
    print_next(f"lcm-scale finetune RECIPE init_from={run}")


def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder or a checkpoint.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A new folder, or a .safetensors file.")
    ],
    format: Annotated[
        str,
        typer.Option(
            help="hub: a folder with card; plain: one file; official: the published pair. Default: by OUT."
        ),
    ] = "",
    dtype: Annotated[str, typer.Option(help="hub: fp32, bf16 or fp16.")] = "fp32",
    shard_gb: Annotated[float, typer.Option(help="hub: the largest file.")] = 5.0,
    results: Annotated[
        Path | None, typer.Option(help="hub: an evaluated run, for the card.")
    ] = None,
    licence: Annotated[str, typer.Option(help="hub: SPDX name, for the card.")] = "",
) -> None:
    """Write a checkpoint's weights for others to load."""
    format = format or ("plain" if out.suffix == ".safetensors" else "hub")
    if format not in ("hub", "plain", "official"):
        raise InputError(f"--format {format}: one of hub, plain, official")
    if format == "hub":
        from lcm_scale.weights.hub import export_hub

        print(f"model: {export_hub(checkpoint, out, dtype, shard_gb, results, licence)}")
        print_next(f"hf upload OWNER/NAME {out}")
        return
    from lcm_scale.weights import checkpoints
    from lcm_scale.weights.plain import export_official, export_plain

    if format == "plain":
        print(f"weights: {export_plain(checkpoint, out)}")
        print_next(f"lcm-scale inspect {checkpoint}")
        return
    paths = export_official(checkpoint, out)
    print(f"weights: {' '.join(map(str, paths))}")
    told = checkpoints.load(checkpoint)  # what those files do not hold
    print_next(
        f"lcm-scale import {paths[0]} {paths[1]} GROUPS RUN --atlas {told.atlas.name} --readout {told.readout} "
        f"--heads {told.model.heads}"
    )
