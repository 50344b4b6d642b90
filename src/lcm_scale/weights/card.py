"""The model card of an exported folder: data, targets, measures with intervals and baselines,
limits, licence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment

from lcm_scale.errors import InputError


def read_results(path: Path) -> dict[str, Any]:
    """The ``results.json`` of an evaluated run, by file or run folder.  Raises: InputError."""
    file = path / "results.json" if path.is_dir() else path
    measured = read_object(file)
    if not {"title", "simulated", "verdict", "protocol", "targets"} <= set(measured):
        raise InputError(
            f"{file}: not the results of an evaluation; name a run that `lcm-scale evaluate` wrote"
        )
    return measured


def card(config: Mapping[str, Any], results: Mapping[str, Any] | None, licence: str) -> str:
    """Markdown with a YAML head.

    Args:
        config: the contents of the folder's ``config.json``.   results: as from `read_results`.
        licence: SPDX name; '' where nobody states one.
    """
    template = (resources.files("lcm_scale.weights") / "card.md.j2").read_text(encoding="utf-8")
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return environment.from_string(template).render(
        about=config,
        results=results,
        licence=licence,
        simulated=any(entry["simulated"] for entry in config["data"]),
        targets=[t for t in config["vocabulary"] if t["name"] in config["active"]],
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.  Raises: InputError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected an object")
    return data
