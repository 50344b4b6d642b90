"""`lcm-scale import` and `lcm-scale export`: models from elsewhere and for others; argument parsing
and printing, nothing else.

Each kind of model is a sub-command with its own options. The spellings of release 0.1.0, which told
kinds by the number of words and by --format, still work through one hidden sub-command each.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lcm_scale.errors import InputError, nearest
from lcm_scale.terminal import print

OLD = "old-spelling"
WithPeople = Annotated[
    bool, typer.Option("--with-people", help="Also a model that holds people's vectors.")
]
Results = Annotated[Path | None, typer.Option(help="An evaluated run, for the card.")]
Licence = Annotated[str, typer.Option(help="SPDX name, for the card.")]

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder to write.")]
Saved = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or a checkpoint.")]


class Kinds(TyperGroup):
    """Sub-commands that each stand for a kind; words that begin otherwise are an old spelling."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        kind = args[0] if args else ""
        if kind and kind not in self.commands and kind != "--help":
            args = [OLD, *args]
        elif kind and kind != "--help":
            self._refuse_others(kind, args[1:], ctx)
        return list(super().parse_args(ctx, args))

    def _refuse_others(self, kind: str, words: list[str], ctx: Any) -> None:
        """Raises: InputError for an option that another kind has and this one lacks."""
        owners: dict[str, list[str]] = {}
        for name, command in self.commands.items():
            for option in [spelling for each in command.params for spelling in each.opts]:
                if name != OLD:
                    owners.setdefault(option, []).append(name)
        for word in words:
            option = word.partition("=")[0]
            if option.startswith("--") and kind not in owners.get(option, [kind]):
                raise InputError(_of_another(str(ctx.info_name), kind, option, owners[option][0]))


import_app = typer.Typer(
    cls=Kinds,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Turn weights from elsewhere into a checkpoint, to finetune or evaluate.",
    epilog="Example: lcm-scale import hub OWNER/NAME runs/pretrained",
)
export_app = typer.Typer(
    cls=Kinds,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Write a checkpoint's weights for others to load.",
    epilog="Example: lcm-scale export hub runs/demo-pretrain demo-model",
)


@import_app.command("hub", epilog="Example: lcm-scale import hub OWNER/NAME runs/pretrained")
def import_hub(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder that export wrote, or OWNER/NAME.")
    ],
    run: Run,
    revision: Annotated[str, typer.Option(help="Of a repository.")] = "",
) -> None:
    """A folder or repository that `export hub` made."""
    from lcm_scale.weights import hub

    _imported(hub.import_hub(source, run, revision or None), run)


@import_app.command(
    "adapters",
    epilog="Example: lcm-scale import adapters given runs/base runs/tuned",
)
def import_adapters(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder of adapters, or OWNER/NAME.")
    ],
    base: Annotated[str, typer.Argument(metavar="BASE", help="The model that they stand on.")],
    run: Run,
    revision: Annotated[str, typer.Option(help="Of a repository.")] = "",
) -> None:
    """What `export adapters` made, merged into its base."""
    from lcm_scale.weights import adapters

    _imported(adapters.import_adapters(source, base, run, revision or None), run)


@import_app.command(
    "official",
    epilog="Example: lcm-scale import official backbone.pth head.pth groups.yml runs/official",
)
def import_official(
    backbone: Annotated[
        Path, typer.Argument(metavar="BACKBONE", help="Its file with lin.0 and lin.1.")
    ],
    head: Annotated[
        Path, typer.Argument(metavar="HEAD", help="Its file with object_query and decoder.")
    ],
    groups: Annotated[
        Path,
        typer.Argument(
            metavar="GROUPS",
            help="YAML, a line a group: `group: [categories in token order, N/A first]`.",
        ),
    ],
    run: Run,
    atlas: Annotated[
        str, typer.Option(help="The region order that it saw, a built-in name or a file.")
    ] = "aal116",
    readout: Annotated[
        str, typer.Option(help="adaptive (mixed runs), last (single-set runs) or mean.")
    ] = "adaptive",
    heads: Annotated[int, typer.Option(help="Of the attention, which the files do not say.")] = 8,
) -> None:
    """The published model's pair of files."""
    from lcm_scale.weights import official

    path = official.import_official(backbone, head, groups, atlas, run, readout, heads)
    _imported(path, run)


@import_app.command(OLD, hidden=True)
def _old_import(
    words: list[str],
    revision: str | None = None,
    atlas: str | None = None,
    readout: str | None = None,
    heads: int | None = None,
) -> None:
    kind = {2: "hub", 4: "official"}.get(len(words))
    if kind is None:
        raise InputError(
            "import: expected `import hub SOURCE RUN` or `import official BACKBONE HEAD GROUPS RUN`"
            f"{nearest(words[0], ('hub', 'official'))}"
        )
    given = _given(revision=revision, atlas=atlas, readout=readout, heads=heads)
    if kind == "hub":
        _refuse("import", kind, given, ("revision",), "official")
    else:
        _refuse("import", kind, given, ("atlas", "readout", "heads"), "hub")
    if kind == "hub":
        import_hub(words[0], Path(words[1]), **given)
    else:
        backbone, head, groups, run = map(Path, words)
        import_official(backbone, head, groups, run, **given)
    _now_spelt("import", kind, words, given)


@export_app.command("hub", epilog="Example: lcm-scale export hub runs/demo-pretrain demo-model")
def export_hub(
    checkpoint: Saved,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    shard_gb: Annotated[float, typer.Option(help="The largest file.")] = 5.0,
    results: Results = None,
    licence: Licence = "",
    with_people: WithPeople = False,
) -> None:
    """A folder as the Hugging Face hub lays one out, with a card."""
    from lcm_scale.weights import hub

    made = hub.export_hub(checkpoint, folder, dtype, shard_gb, results, licence, with_people)
    print(f"model: {made}{_holds(checkpoint)}")
    print(f"next: hf upload OWNER/NAME {folder}")


@export_app.command(
    "adapters", epilog="Example: lcm-scale export adapters runs/demo-finetune demo-adapters"
)
def export_adapters(
    checkpoint: Saved,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    results: Results = None,
    licence: Licence = "",
    with_people: WithPeople = False,
) -> None:
    """What a run of optim.trainable=lora trained, without its base."""
    from lcm_scale.weights import adapters

    made = adapters.export_adapters(checkpoint, folder, results, licence, with_people)
    print(f"adapters: {made}{_holds(checkpoint)}")
    print(f"next: lcm-scale predict {folder} SCANS --base BASE")


@export_app.command(
    "plain", epilog="Example: lcm-scale export plain runs/demo-pretrain demo.safetensors"
)
def export_plain(
    checkpoint: Saved,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="It ends in .safetensors.")],
    with_people: WithPeople = False,
) -> None:
    """One safetensors file, the weights alone and what they mean."""
    from lcm_scale.weights import plain

    print(f"weights: {plain.export_plain(checkpoint, file, with_people)}{_holds(checkpoint)}")
    print(f"next: lcm-scale inspect {checkpoint}")


@export_app.command(
    "official", epilog="Example: lcm-scale export official runs/official-147m official"
)
def export_official(
    checkpoint: Saved,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the pair goes.")],
) -> None:
    """The published model's pair of files."""
    from lcm_scale.weights import checkpoints, official

    backbone, head = official.export_official(checkpoint, folder)
    print(f"weights: {backbone} {head}")
    loaded = checkpoints.load(checkpoint)  # what those files do not hold
    print(
        f"next: lcm-scale import official {backbone} {head} GROUPS RUN --atlas {loaded.atlas.name} "
        f"--readout {loaded.readout} --heads {loaded.model.heads}"
    )


@export_app.command(OLD, hidden=True)
def _old_export(
    checkpoint: Path,
    out: Path,
    format: str | None = None,
    dtype: str | None = None,
    shard_gb: float | None = None,
    results: Path | None = None,
    licence: str | None = None,
) -> None:
    kind = format or ("plain" if out.suffix == ".safetensors" else "hub")
    if kind not in ("hub", "plain", "official"):
        raise InputError(f"--format {kind}: one of hub, plain, official")
    given = _given(dtype=dtype, shard_gb=shard_gb, results=results, licence=licence)
    if kind != "hub":
        _refuse("export", kind, given, (), "hub")
    if kind == "hub":
        export_hub(checkpoint, out, **given)
    elif kind == "plain":
        export_plain(checkpoint, out)
    else:
        export_official(checkpoint, out)
    _now_spelt("export", kind, [str(checkpoint), str(out)], given)


def _holds(checkpoint: Path) -> str:
    from lcm_scale.weights import checkpoints
    from lcm_scale.weights.personal import personal

    kept = personal(checkpoints.load(checkpoint).model)
    return f" (personal data: it holds {kept})" if kept else ""


def _given(**options: Any) -> dict[str, Any]:
    """The options that were named; those of another kind must not pass by their defaults."""
    return {name: value for name, value in options.items() if value is not None}


def _now_spelt(verb: str, kind: str, words: list[str], given: dict[str, Any]) -> None:
    """Says so when the work is done: a mistake is one line, with or without it."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    line = shlex.join(["lcm-scale", verb, kind, *words, *options])
    print(f"note: this is now spelt `{line}`", file=sys.stderr)


def _refuse(verb: str, kind: str, given: dict[str, Any], own: tuple[str, ...], other: str) -> None:
    """Raises: InputError for an option that is not the kind's own."""
    for name in given:
        if name not in own:
            raise InputError(_of_another(verb, kind, f"--{name.replace('_', '-')}", other))


def _of_another(verb: str, kind: str, option: str, other: str) -> str:
    return f"{verb} {kind}: {option} belongs to `lcm-scale {verb} {other}`"


def _imported(checkpoint: Path, run: Path) -> None:
    print(f"checkpoint: {checkpoint}")
    print(f"next: lcm-scale finetune RECIPE init_from={run}")
