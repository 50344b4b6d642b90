"""What each part of a model is worth: one self-contained page, a figure a target as PNG, SVG and
CSV, `ablation.csv` and `ablation.json`.

In: every variant's metrics and its paired differences from the base. Out: files in the ablation's
folder. The page needs no script and no other file; what may not be concluded stands in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lcm_scale.csv_text import csv_text
from lcm_scale.evaluation.metrics import METRICS, Metric, MetricKind
from lcm_scale.evaluation.paired import Compared, standing
from lcm_scale.files import write_atomic
from lcm_scale.report import pages, pictures, style, wording
from lcm_scale.report.forest import Line, Panel, forest
from lcm_scale.report.numbers import plain
from lcm_scale.report.pictures import Drawn

LONGEST_VALUE = 60  # characters of a changed value in a table
PARTS = {  # keys of a recipe that put a part into a model -> the part
    "init_from": "pretraining",
    "model.prior": "the pretrained prior",
    "model.people_memory": "people memory",
    "model.context": "context",
    "model.edge_branch": "the linear branch",
    "pseudo.targets": "pseudo-labels",
}
NOT_THERE: tuple[Any, ...] = (None, "none", [], False)
WORDS = {
    "better": "better than the base",
    "worse": "worse than the base",
    "level": "no difference can be shown",
    "base": "",
}


@dataclass(frozen=True)
class Row:
    """A variant, or a baseline on the same people, by metric."""

    name: str
    is_baseline: bool
    metrics: Mapping[str, Compared]


@dataclass(frozen=True)
class TargetTable:
    """One target; the base stands first among its rows, the baselines last.

    Attributes:
        deciding: the metric that says who wins.   confounded: why it must not be believed, or None.
        unit: of a scalar, in words, '' where nobody said.
    """

    target: str
    kind: str
    deciding: str
    confounded: str | None
    unit: str
    rows: tuple[Row, ...]

    @property
    def metric(self) -> MetricKind:
        return METRICS[self.kind][self.deciding]

    @property
    def label(self) -> str:
        """Of the deciding metric, with its unit."""
        in_units = self.unit if self.deciding == "mae" else ""
        return f"{self.metric.label}{f', {in_units}' if in_units else ''}"

    @property
    def counted(self) -> Metric:
        """Of the base: with the numbers of scans and people."""
        return self.rows[0].metrics[self.deciding].value

    def standing(self, row: Row) -> str:
        """better, worse or level, or `base`."""
        difference = row.metrics[self.deciding].difference
        return "base" if difference is None else standing(difference, self.metric)


@dataclass(frozen=True)
class Ablated:
    """An ablation, measured.

    Attributes:
        tables: the headline's first.   missing: variants that are not finished.
        changes: variant -> dotted key -> (the base's value, its own).
    """

    title: str
    simulated: bool
    folds: int
    fold_seed: int
    seeds: tuple[int, ...]
    tables: tuple[TargetTable, ...]
    changes: Mapping[str, Mapping[str, tuple[Any, Any]]]
    missing: tuple[str, ...]


def write(a: Ablated, folder: Path) -> Path:
    """Write all files, each whole or not at all, the page last.

    Returns: the page's path.  Raises: InputError where the folder cannot be written.
    """
    figures = [_figure(a, t) for t in a.tables]
    pictures.write(figures, folder, earlier="ablation*")
    write_atomic(folder / "ablation.csv", csv_text(csv_rows(a)).encode())
    told = json.dumps(plain(numbers(a)), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / "ablation.json", told.encode())
    page = folder / "ablation.html"
    write_atomic(page, _render(a, figures).encode())
    return page


# -- words -----------------------------------------------------------------------------------------


def verdict(a: Ablated) -> str:
    """What can be shown of the headline, in a sentence or two."""
    table = a.tables[0]
    kind = table.metric
    found: dict[str, list[str]] = {"better": [], "worse": [], "level": []}
    for row in table.rows[1:]:
        if not row.is_baseline:
            difference = row.metrics[table.deciding].difference
            assert difference is not None
            told = f"{row.name} ({wording.show(difference, kind, signed=True)})"
            found[table.standing(row)].append(told)
    simulated = "simulated " if a.simulated else ""
    head = (
        f"On {wording.words(table.target)} ({table.label}, {table.counted.n_subjects} {simulated}"
        f"people) the base has {wording.show(table.counted, kind)}."
    )
    parts = [head]
    for standing_, word in (("worse", "Worse than it"), ("better", "Better than it")):
        if found[standing_]:
            parts.append(f"{word}: {'; '.join(found[standing_])}.")
    if found["level"]:
        count = len(found["level"])
        parts.append(
            f"No difference can be shown for {count} variant{'' if count == 1 else 's'}: "
            f"{'; '.join(found['level'])}."
        )
    return " ".join([*parts, *_what_counts(a)])


def _what_counts(a: Ablated) -> Iterator[str]:
    """The headline's verdict by part, of the variants that leave one part out and nothing else."""
    table = a.tables[0]
    found: dict[str, list[str]] = {"worse": [], "level": [], "better": []}
    for row in table.rows[1:]:
        part = "" if row.is_baseline else _left_out(a.changes[row.name])
        if part:
            found[table.standing(row)].append(part)
    if found["worse"]:
        yield f"What wins: {', '.join(found['worse'])}."
    if found["level"]:
        yield f"What adds nothing that can be shown: {', '.join(found['level'])}."
    if found["better"]:
        yield f"What does harm: {', '.join(found['better'])}."


def _left_out(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """The part that a variant leaves out, '' where it changes something else, or more."""
    if len(changes) != 1:
        return ""
    ((key, (before, now)),) = changes.items()
    return PARTS.get(key, "") if now in NOT_THERE and before not in NOT_THERE else ""


def remarks(a: Ablated) -> list[str]:
    """How the numbers are to be read, and what may not be concluded."""
    count = sum(1 for t in a.tables for row in t.rows[1:] if not row.is_baseline)
    averaged = (
        f"Every variant is trained with {len(a.seeds)} seeds ({', '.join(map(str, a.seeds))}); "
        "metrics are averaged over them on each resample, and the differences seed by seed stand "
        "beside the interval, which covers people and not which seeds were run."
        if len(a.seeds) > 1
        else f"Every variant is trained with one seed ({a.seeds[0]}): the interval covers people "
        "and not which seed was run, and another seed may turn a small difference round."
    )
    lines = [
        f"All are evaluated on the same folds ({a.folds}, seed {a.fold_seed}) of the same people. "
        "Differences are paired; brackets are 95 % intervals over people.",
        averaged,
        f"{count} difference{'' if count == 1 else 's'} from the base were looked at and none is "
        "corrected for that: of differences that are truly zero about one in twenty has an "
        "interval that excludes it.",
        "Baselines are tuned linear models on the base's training people; their rows are minus the "
        "base too.",
    ]
    told = [name for name, own in a.changes.items() if own.get("model.context", ("", ""))[1]]
    if told:
        lines.append(
            f"{', '.join(told)}: told something (model.context) that the baselines here are not; "
            "put it into the base, and a linear model that is told the same stands beside."
        )
    if a.missing:
        lines.append(f"Not finished, and left out: {', '.join(a.missing)}.")
    return lines


def changed(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """What a variant changes, in a line: `model.people_memory: linear to none`."""
    return "; ".join(
        f"{key}: {_value(key, before)} to {_value(key, now)}"
        for key, (before, now) in changes.items()
    )


def _value(key: str, value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        # Phases: what they are called and how long they are, not their every key.
        return ", ".join(f"{each.get('name')} ({each.get('epochs')})" for each in value)
    if value == [] and key.endswith(("targets", "sets")):
        return "all"
    told_ = "none" if value is None else wording.fact(value)
    return told_ if len(told_) <= LONGEST_VALUE else f"{told_[:LONGEST_VALUE]}..."


def table_rows(t: TargetTable) -> list[list[str]]:
    """name, value, difference, seeds, standing: for the terminal and the page."""
    rows = []
    for row in t.rows:
        found = row.metrics[t.deciding]
        rows.append(
            [
                wording.label(row.name),
                wording.show(found.value, t.metric),
                "" if found.difference is None else wording.show(found.difference, t.metric, True),
                ", ".join(
                    wording.digits(value, t.metric, found.difference is not None)
                    for value in found.by_seed
                )
                if len(found.by_seed) > 1
                else "",
                WORDS[t.standing(row)],
            ]
        )
    return rows


# -- numbers ---------------------------------------------------------------------------------------


def csv_rows(a: Ablated) -> Iterator[dict[str, Any]]:
    """A row a target, variant or baseline, and metric."""
    for t in a.tables:
        for row in t.rows:
            for name, found in row.metrics.items():
                d = found.difference
                yield {
                    "target": t.target,
                    "simulated": a.simulated,
                    "confounded": t.confounded or "",
                    "variant": row.name,
                    "baseline": row.is_baseline,
                    "changes": "" if row.is_baseline else changed(a.changes[row.name]),
                    "metric": name,
                    "decides": name == t.deciding,
                    "value": found.value.value,
                    "low": found.value.low,
                    "high": found.value.high,
                    "difference": "" if d is None else d.value,
                    "difference_low": "" if d is None else d.low,
                    "difference_high": "" if d is None else d.high,
                    "by_seed": ";".join(f"{value:.6g}" for value in found.by_seed),
                    "n_scans": found.value.n_scans,
                    "n_subjects": found.value.n_subjects,
                    "standing": t.standing(row) if name == t.deciding else "",
                }


def numbers(a: Ablated) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        **{k: v for k, v in a.__dict__.items() if k != "tables"},
        "verdict": verdict(a),
        "remarks": remarks(a),
        "targets": [
            {
                **{k: v for k, v in t.__dict__.items() if k != "rows"},
                "rows": [
                    {
                        "name": row.name,
                        "is_baseline": row.is_baseline,
                        "standing": t.standing(row),
                        "metrics": {name: asdict(found) for name, found in row.metrics.items()},
                    }
                    for row in t.rows
                ],
            }
            for t in a.tables
        ],
    }


# -- picture and page ------------------------------------------------------------------------------


def _figure(a: Ablated, t: TargetTable) -> Drawn:
    """Of a target: each row's difference from the base with its interval, a faint tick a seed. The
    majority is left to the tables: so far off, it would squeeze the others."""
    shown: list[tuple[Row, Metric]] = []
    for row in t.rows[1:]:
        difference = row.metrics[t.deciding].difference
        if row.name != "majority" and difference and math.isfinite(difference.value):
            shown.append((row, difference))
    better = "right" if t.metric.higher_is_better else "left"
    label = f"{t.label}, minus base\n({better} is better)"
    title = wording.first_upper(wording.words(t.target))
    figure = forest([Panel([_line(t, *each) for each in shown], label, 0, title)])
    stamp = wording.stamped(a.simulated, t.confounded)
    rows = [
        {
            "target": t.target,
            "variant": row.name,
            "metric": t.deciding,
            **{f"difference{end}": getattr(d, end[1:] or "value") for end in ("", "_low", "_high")},
            "by_seed": ";".join(f"{value:.6g}" for value in row.metrics[t.deciding].by_seed),
        }
        for row, d in shown
    ]
    alt = f"Difference of every variant from the base, with intervals: {t.target}. {stamp}"
    return Drawn(f"ablation-{t.target}", style.stamp(figure, stamp), rows, alt, t.target)


def _line(t: TargetTable, row: Row, difference: Metric) -> Line:
    colour, marker = (style.OTHERS[1], "s") if row.is_baseline else (style.MODEL, "o")
    seeds = row.metrics[t.deciding].by_seed
    return Line(
        wording.label(row.name),
        difference,
        wording.digits(difference.value, t.metric, signed=True),
        colour,
        marker,
        t.standing(row) != "level",
        seeds if len(seeds) > 1 else (),
    )


def _render(a: Ablated, figures: Sequence[Drawn]) -> str:
    templates = pages.environment(
        words=wording.words, first=wording.first_upper, whole=wording.whole, changed=changed
    )
    return templates.get_template("ablation.html.j2").render(
        a=a,
        simulated=a.simulated,
        title=a.title,
        heading=f"{a.title}: one part changed at a time",
        verdict=verdict(a),
        remarks=remarks(a),
        rows={t.target: list(zip(t.rows, table_rows(t), strict=True)) for t in a.tables},
        images=[pictures.shown(drawn, "") for drawn in figures],
    )
