"""A page for each verb of the command line, from what `--help` prints."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer
from page_text import code, plain, table, toctree

from lcm_scale.cli.app import app

PROGRAM = "lcm-scale"


def verb_pages() -> Iterator[tuple[str, str]]:
    """(name of the file, Markdown) of the list of verbs and of each of them."""
    root: Any = typer.main.get_command(app)
    context = root.context_class(root, info_name=PROGRAM)
    verbs = {name: root.get_command(context, name) for name in root.list_commands(context)}
    rows = [(f"[`{name}`]({name}.md)", plain(_summary(verb))) for name, verb in verbs.items()]
    yield (
        "index",
        f"# Command line\n\n{plain(root.help)} Each page is what `{PROGRAM} VERB --help` prints."
        "\n\n"
        f"{table(('verb', 'what it does'), rows)}\n\n{toctree(verbs)}",
    )
    for name, verb in verbs.items():
        yield name, "\n\n".join(_sections(verb, context, name, 1)) + "\n"


def _summary(verb: Any) -> str:
    return inspect.cleandoc(verb.help or "").partition("\n\n")[0].replace("\n", " ")


def _sections(verb: Any, above: Any, name: str, level: int) -> Iterator[str]:
    """A verb and the verbs below it, each a heading deeper."""
    context = verb.context_class(verb, info_name=name, parent=above)
    yield f"{'#' * level} {context.command_path}"
    yield plain(inspect.cleandoc(verb.help or ""))
    yield f"```text\n{verb.get_usage(context).removeprefix('Usage: ')}\n```"
    records = [(one, one.get_help_record(context)) for one in verb.get_params(context)]
    for title, kind in (("argument", "argument"), ("option", "option")):
        rows = [
            (code(record[0]), plain(record[1]))
            for one, record in records
            if record and one.param_type_name == kind and record[0] != "--help"
        ]
        if rows:
            yield table((title, "what it is"), rows)
    if verb.epilog:
        lead, _, command = " ".join(verb.epilog.split()).partition(": ")
        yield f"{lead}:\n\n```bash\n{command}\n```"
    if hasattr(verb, "list_commands"):
        for below in verb.list_commands(context):
            yield from _sections(verb.get_command(context, below), context, below, level + 1)
