"""The model card of an exported folder: data, targets, measures with intervals and baselines,
limits, licence."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from lcm_scale import checked
from lcm_scale.terminal import one_line
from lcm_scale.weights.meaning import MOST_PEOPLE


def read_results(path: Path) -> dict[str, Any]:
    """The ``results.json`` of an evaluated run, by file or run folder.  Raises: InputError."""
    file = path / "results.json" if path.is_dir() else path
    advice = "name a run that `lcm-scale evaluate` wrote"
    with checked.damage_named(file, "not the results of an evaluation", advice):
        own = checked.members(
            checked.read_object(file),
            "it",
            ("title", "simulated", "verdict", "protocol", "targets"),
        )
        checked.flag(own["simulated"], "simulated")
        verdict = checked.members(own["verdict"], "verdict", ("sentence",))
        checked.text(verdict["sentence"], "verdict.sentence")
        for name in ("title", "protocol"):
            checked.text(own[name], name)
        checked.text(own.get("optimistic", ""), "optimistic")
        checked.entries(own["targets"], "targets", _target)
    return own


def _in_markdown(value: object) -> object:
    """Names and sentences of others neither end a line or a cell nor open a tag."""
    if not isinstance(value, str):
        return value
    return one_line(value).replace("|", "\\|").replace("<", "&lt;")


def _target(value: object, name: str) -> None:
    own = checked.members(value, name, ("target", "confounded", "results"))
    checked.text(own["target"], f"{name}.target")
    for model, metrics in checked.members(own["results"], f"{name}.results").items():
        checked.entries(metrics, f"{name}.results.{model}", _metric)


def _metric(value: object, name: str) -> None:
    own = checked.members(value, name, ("name", "value", "low", "high", "n_scans", "n_subjects"))
    checked.text(own["name"], f"{name}.name")
    for key in ("value", "low", "high"):
        if own[key] is not None:
            checked.number(own[key], f"{name}.{key}")
    for key in ("n_scans", "n_subjects"):
        checked.whole(own[key], f"{name}.{key}", 0, MOST_PEOPLE)


def card(
    config: Mapping[str, Any], results: Mapping[str, Any] | None, licence: str, kept: str = ""
) -> str:
    """Markdown with a YAML head.

    Args:
        config: the contents of the folder's ``config.json``.   results: as from `read_results`.
        licence: SPDX name; '' where nobody states one.   kept: what it holds of people.
    """
    template = (resources.files("lcm_scale.weights") / "card.md.j2").read_text(encoding="utf-8")
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, finalize=_in_markdown
    )
    return environment.from_string(template).render(
        about=config,
        results=results,
        licence=licence,
        personal=kept,
        simulated=any(entry["simulated"] for entry in config["data"]),
        targets=[t for t in config["vocabulary"] if t["name"] in config["active"]],
    )
