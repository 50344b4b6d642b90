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

RESULTS, EVALUATED = "results.json", "evaluated_by.json"
ADVICE = "name a run that `lcm-scale evaluate` wrote"
AHEAD = {  # the report's standing -> who is ahead
    "ahead": "the model",
    "behind": "the baseline",
    "level": "no difference can be shown",
    "alone": "no baseline was run",
    "optimistic": "nobody: optimistic",
}


def read_results(path: Path) -> dict[str, Any]:
    """The ``results.json`` of an evaluated run, by file or run folder.  Raises: InputError."""
    file = path / RESULTS if path.is_dir() else path
    with checked.damage_named(file, "not the results of an evaluation", ADVICE):
        own = checked.members(
            checked.read_object(file),
            "it",
            ("title", "simulated", "verdict", "protocol", "targets"),
        )
        checked.flag(own["simulated"], "simulated")
        _verdict(own["verdict"], "verdict")
        for name in ("title", "protocol"):
            checked.text(own[name], name)
        for name in ("optimistic", "brackets"):
            checked.text(own.get(name, ""), name)
        data = checked.members(own.get("data", {}), "data")
        for name in ("set", "fingerprint"):
            checked.text(data.get(name, ""), f"data.{name}")
        checked.members(own.get("together", {}), "together", each=_number_or_none)
        checked.entries(own["targets"], "targets", _target)
    return own | {"fixed": _fixed(file.with_name("evaluation.json"))}


def _fixed(file: Path) -> str:
    """The mark of the checkpoint that was evaluated as it is; '' where each fold trained its own,
    or an older version did not write it down."""
    if not file.is_file():
        return ""
    with checked.damage_named(file, "not what an evaluation was asked", ADVICE):
        starts = checked.members(checked.read_object(file).get("starts_from", {}), "starts_from")
        return checked.text(starts.get("evaluate.checkpoint", ""), "evaluate.checkpoint")


def evaluated_by(run: Path) -> dict[str, Any] | None:
    """What is said of a model whose recipe was evaluated: `EVALUATED` in its own folder, or the
    results of the run that it is; None where neither is there.  Raises: InputError."""
    found = read_evaluated(run / EVALUATED)
    if found is None and (run / RESULTS).is_file():
        return evaluation_in_short(read_results(run), run.name)
    return found


def read_evaluated(file: Path) -> dict[str, Any] | None:
    """What `evaluation_in_short` wrote; None where there is no such file.  Raises: InputError."""
    if not file.is_file():
        return None
    with checked.damage_named(file, "not what an evaluation found", "evaluate again"):
        return checked.members(checked.read_object(file), "it", each=checked.text)


def evaluation_in_short(results: Mapping[str, Any], run: str = "") -> dict[str, Any]:
    """What a model carries of its recipe's evaluation.

    Args: results: as from `read_results`.   run: the evaluated run's name; '': its title.
    """
    return {
        "run": run or results["title"],
        "is": "models of the same recipe, each asked of people whom it had not seen",
        "protocol": results["protocol"],
        "verdict": results["verdict"]["sentence"],
        "optimistic": results.get("optimistic", ""),
    }


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
    if "verdict" not in own:
        return
    _verdict(own["verdict"], f"{name}.verdict")
    checked.choice(own.get("model"), f"{name}.model", tuple(own["results"]))
    checked.text(own.get("unit", ""), f"{name}.unit")
    deciding = checked.text(own.get("deciding"), f"{name}.deciding")
    tables = {"results": [own["model"]], "differences": []}
    if own.get("best_baseline") is not None:
        tables = {"results": [own["model"], own["best_baseline"]]}
        tables["differences"] = [own["best_baseline"]]
    for table, models in tables.items():
        found = checked.members(own.get(table), f"{name}.{table}")
        for model in models:
            checked.choice(model, f"{name}.{table}", tuple(found))
            metrics = checked.entries(found[model], f"{name}.{table}.{model}", _metric)
            checked.choice(deciding, f"{name}.deciding", metrics)


def _verdict(value: object, name: str) -> None:
    own = checked.members(value, name, ("sentence",))
    for key in ("sentence", "standing", "detail"):
        checked.text(own.get(key, ""), f"{name}.{key}")


def _number_or_none(value: object, name: str) -> None:
    if value is not None:
        checked.number(value, name)


def _metric(value: object, name: str) -> str:
    """Its name."""
    own = checked.members(value, name, ("name", "value", "low", "high", "n_scans", "n_subjects"))
    for key in ("value", "low", "high"):
        _number_or_none(own[key], f"{name}.{key}")
    for key in ("n_scans", "n_subjects"):
        checked.whole(own[key], f"{name}.{key}", 0, MOST_PEOPLE)
    return checked.text(own["name"], f"{name}.name")


def _people(results: Mapping[str, Any]) -> int:
    """How many the numbers are of: of the target that most have."""
    metrics = [m for t in results["targets"] for each in t["results"].values() for m in each]
    return max((m["n_subjects"] for m in metrics), default=0)


def _lead(results: Mapping[str, Any], t: Mapping[str, Any]) -> dict[str, str]:
    """A target's row: the model beside its best baseline, and who is ahead by the report's own
    verdict."""

    def shown(table: str, model: str | None) -> str:
        if model is None:
            return "-"
        return _shown(next(m for m in t[table][model] if m["name"] == t["deciding"]))

    best = t["best_baseline"]
    p = results.get("together", {}).get(t["target"])
    several = len(results["targets"]) > 1 and p is not None
    unit = f", {t['unit']}" if t.get("unit") and t["deciding"] == "mae" else ""
    ours = next(m for m in t["results"][t["model"]] if m["name"] == t["deciding"])
    return {
        "target": t["target"],
        "measure": f"{t['deciding']}{unit}",
        "model": t["model"],
        "ours": shown("results", t["model"]),
        "baseline": "-" if best is None else f"{best} {shown('results', best)}",
        "difference": shown("differences", best),
        "people": ours["n_subjects"],
        "ahead": AHEAD.get(t["verdict"].get("standing", ""), "not said"),
        "p": f"{p:.3f}" if several else "-",
    }


def _shown(m: Mapping[str, Any]) -> str:
    """A value with its interval."""
    if any(m[key] is None for key in ("value", "low", "high")):
        return "-" if m["value"] is None else f"{m['value']:.3f}"
    return f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]"


def card(
    config: Mapping[str, Any],
    results: Mapping[str, Any] | None,
    licence: str,
    mark: str = "",
    base: Mapping[str, str] | None = None,
) -> str:
    """Markdown with a YAML head.

    Args:
        config: the contents of the folder's ``config.json``.   results: as from `read_results`.
        licence: SPDX name; '' where nobody states one.
        mark: of the checkpoint (`checkpoints.mark_of`), to see whether the results are its own.
        base: where the folder holds adapters alone, ``run`` and ``sha256`` of what they stand on.
    """
    template = (resources.files("lcm_scale.weights") / "card.md.j2").read_text(encoding="utf-8")
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, finalize=_in_markdown
    )
    return environment.from_string(template).render(
        about=config,
        results=results,
        people=_people(results) if results else 0,
        leads=[_lead(results, t) for t in results["targets"] if "verdict" in t] if results else [],
        licence=licence,
        mark=mark,
        base=base,
        simulated=any(entry["simulated"] for entry in config["data"]),
        targets=[t for t in config["vocabulary"] if t["name"] in config["active"]],
    )
