"""Two evaluated runs on one self-contained page: who is better, by how much, of whom, and what else
differs between them; the same as picture, CSV and JSON.

In: a comparison (`evaluation.compare`). Out: `compare.html`, `compare.csv`, `compare.json` and each
figure as PNG, SVG and CSV, in a folder. The page needs no script and no other file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lcm_scale.csv_text import csv_text
from lcm_scale.evaluation.compare import Compared, People, Row
from lcm_scale.evaluation.several import clear
from lcm_scale.files import write_atomic
from lcm_scale.report import pages, pictures, style, wording
from lcm_scale.report.forest import Line, Panel, forest
from lcm_scale.report.numbers import plain
from lcm_scale.report.pictures import Drawn
from lcm_scale.report.verdict import Verdict

ENDS = ("", "_low", "_high")
LONGEST_VALUE = 80  # characters of a recipe's value in a table
LOOKS = {  # standing of the second -> (colour, marker, filled): never colour alone
    "better": (style.MODEL, "o", True),
    "worse": (style.OTHERS[1], "D", True),
    "level": (style.MUTED, "o", False),
}


def write(c: Compared, folder: Path) -> Path:
    """Write all files, each whole or not at all, the page last.

    Returns: the page's path.  Raises: InputError where the folder cannot be written.
    """
    figures = dict(_figures(c))
    pictures.write(list(figures.values()), folder, earlier="compare*")
    write_atomic(folder / "compare.csv", csv_text(csv_rows(c)).encode())
    told = json.dumps(plain(numbers(c)), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / "compare.json", told.encode(errors="backslashreplace"))
    page = folder / "compare.html"
    write_atomic(page, _render(c, figures).encode(errors="backslashreplace"))
    return page


# -- words -----------------------------------------------------------------------------------------


def verdict(c: Compared, row: Row) -> Verdict:
    """Who is better at a target, in a deciding row: nobody where the interval holds zero."""
    kind, people = c.kind(row), row.difference
    label = wording.lower(kind.label)
    unit = c.targets[row.target].unit if row.metric == "mae" else ""
    of = f"{label}{f' in {unit}' if unit else ''}"
    simulated = "simulated " if c.simulated else ""
    where = (
        f"{wording.words(row.target)} ({people.n_scans} {simulated}predictions of "
        f"{people.n_subjects} people)"
    )
    first, second = (wording.show(m, kind) for m in (row.first, row.second))
    both = f"{of} {second} for {c.second}, {first} for {c.first}."
    less = f"{c.second} minus {c.first}"
    detail = f"The paired difference, {less}, is {wording.show(row.difference, kind, signed=True)}"
    if c.optimistic:
        sentence = f"Optimistic, so that nobody is ahead: on {where} {both}"
        return Verdict("optimistic", sentence, f"{detail}. {c.optimistic}")
    if row.standing == "level":
        sentence = f"No difference can be shown on {where}: {both}"
        ending = "it includes zero, so who leads may be an accident of who was scanned."
        return Verdict("level", sentence, f"{detail}: {ending}")
    better, worse = (c.second, c.first) if row.standing == "better" else (c.first, c.second)
    sentence = f"{better} beats {worse} on {where}: {both}"
    ending = "it excludes zero, so the lead is hardly an accident of who was scanned."
    standing = "ahead" if row.standing == "better" else "behind"
    return Verdict(standing, sentence, f"{detail}: {ending}{_corrected(c, row)}")


def _corrected(c: Compared, row: Row) -> str:
    """Of a lead, what is left of it when it is one of several."""
    count = len(c.targets)
    if count == 1:
        return ""
    p = wording.p_value(row.p_holm)
    if clear(row.p_holm):
        return f" It holds when corrected for {count} targets ({p}, Holm)."
    return f" It does not hold when corrected for {count} targets ({p}, Holm)."


def differing(c: Compared) -> list[str]:
    """What a reader must know of the two runs' data; empty where both are of the same scans, people
    and answers."""
    lines = []
    (names, marks), (other_names, other_marks) = c.tested
    if not (marks and other_marks):
        lines.append("One of the two does not say which data it was evaluated on.")
    elif marks != other_marks:
        lines.append(
            f"The data differ: {c.first} was evaluated on {names} (fingerprint {marks}), "
            f"{c.second} on {other_names} ({other_marks}). People are matched by their hashed ids, "
            "a person's scans by their order."
        )
    lines += _people_lines(c)
    trained = [_sets(sets, tested) for sets, (tested, _) in zip(c.sets, c.tested, strict=True)]
    if trained[0] != trained[1]:
        first, second = (", ".join(each) or "none" for each in trained)
        lines.append(
            f"Beside the evaluated sets, {c.first} was given {first}, {c.second} {second}."
        )
    if c.grouped:
        lines.append(
            f"evaluate.group={c.grouped} kept people together, whom the intervals here draw one by "
            "one: they may be too narrow."
        )
    return lines


def _people_lines(c: Compared) -> Iterator[str]:
    """Whom the runs do not share, targets of the same people in one line."""
    of: dict[People, list[str]] = {}
    for target, told in c.targets.items():
        if not told.people.all_compared:
            of.setdefault(told.people, []).append(wording.words(target))
    for people, targets in of.items():
        parts = {
            f"in {c.first} alone": people.first_alone,
            f"in {c.second} alone": people.second_alone,
            "with another number of scans": people.other_scans,
            "with another answer": people.other_answers,
        }
        gone = ", ".join(f"{count} {what}" for what, count in parts.items() if count)
        yield (
            f"{wording.first_upper(', '.join(targets))}: {people.shared} people are compared "
            f"({c.first} was asked of {people.first}, {c.second} of {people.second}); left out: "
            f"{gone}. The numbers are of those who are left, and may differ from the two reports."
        )


def _sets(sets: Any, tested: str) -> list[str]:
    """Names with fingerprints of the sets that took part without being evaluated."""
    return [f"{n} ({mark})" for n, mark in sets.items() if n not in tested.split(", ")]


def remarks(c: Compared) -> list[str]:
    """How the numbers are to be read, and what may not be concluded."""
    count = len(c.rows)
    lines = [
        f"The second run is {c.second}, the first {c.first}; both are scored on the same held-out "
        "people. Nobody was in the training part of the model that answered.",
        "Brackets are 95 % bootstrap intervals over people; all scans of a person are drawn "
        "together. They hold folds and trained models fixed: another seed may turn a small "
        "difference round.",
        f"{count} difference{'' if count == 1 else 's'} were looked at, one a target decides. The "
        "corrected p is that of the deciding difference, by Holm over the targets; it holds below "
        ".05.",
    ]
    lines += [
        f"{wording.first_upper(wording.words(target))} was not compared: {why}."
        for target, why in c.left_out.items()
    ]
    return lines


def _value(value: Any) -> str:
    """A recipe's value, without where things lie on somebody's machine."""
    if isinstance(value, str) and "/" in value:
        value = Path(value).name
    if isinstance(value, list):
        value = [Path(v).name if isinstance(v, str) and "/" in v else v for v in value]
    told = "not set" if value is None or value == "" else wording.fact(value)
    return told if len(told) <= LONGEST_VALUE else f"{told[:LONGEST_VALUE]}..."


# -- numbers ---------------------------------------------------------------------------------------


def csv_rows(c: Compared) -> Iterator[dict[str, Any]]:
    """A row a target and metric."""
    for row in c.rows:
        runs = (("first", row.first), ("second", row.second), ("difference", row.difference))
        yield {
            "target": row.target,
            "simulated": c.simulated,
            "confounded": c.targets[row.target].confounded,
            "optimistic": bool(c.optimistic),
            "metric": row.metric,
            "decides": row.deciding,
            **{
                f"{which}{end and f'_{end}'}": getattr(metric, end or "value")
                for which, metric in runs
                for end in ("", "low", "high")
            },
            "standing": row.standing,
            "p": row.difference.p,
            "p_holm": row.p_holm,
            "n_scans": row.difference.n_scans,
            "n_subjects": row.difference.n_subjects,
        }


def numbers(c: Compared) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "first": c.first,
        "second": c.second,
        "headline": c.headline,
        "verdict": asdict(verdict(c, c.deciding[0])),
        "optimistic": c.optimistic,
        "differs": differing(c),
        "people": {name: asdict(told.people) for name, told in c.targets.items()},
        "not_compared": c.left_out,
        "data": [dict(zip(("sets", "fingerprints"), each, strict=True)) for each in c.tested],
        "recipes": {key: [_value(v) for v in both] for key, both in c.recipes.items()},
        "rows": list(csv_rows(c)),
    }


# -- pictures and page -----------------------------------------------------------------------------


def _figures(c: Compared) -> Iterator[tuple[str, Drawn]]:
    """Of each target its figure, and before them, under '', that of the deciding metrics where
    there are several targets."""
    if len(c.targets) > 1:
        words = _stamp(c, *c.targets)
        figure = style.stamp(picture(c, c.deciding, by_target=True), words)
        alt = f"{c.second} minus {c.first}, target by target. {words}"
        yield "", Drawn("compare_all", figure, _figure_rows(c.deciding), alt)
    for target in c.targets:
        figure = style.stamp(picture(c, c.of(target), by_target=False), _stamp(c, target))
        alt = f"{c.second} minus {c.first}, {target}. {_stamp(c, target)}"
        yield target, Drawn(f"compare-{target}", figure, _figure_rows(c.of(target)), alt)


def _figure_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "target": row.target,
            "metric": row.metric,
            **{f"difference{end}": getattr(row.difference, end[1:] or "value") for end in ENDS},
        }
        for row in rows
    ]


def _stamp(c: Compared, *targets: str) -> str:
    confounded = any(c.targets[target].confounded for target in targets)
    return wording.stamped(c.simulated, confounded, c.optimistic)


def picture(c: Compared, rows: Sequence[Row], by_target: bool) -> Figure:
    """A difference and its interval a row; errors in a unit of their own have their own panel.

    Args: by_target: each row is another target's.
    """
    panels: dict[str, list[Row]] = {}
    for row in rows:
        panels.setdefault(_scale(c, row), []).append(row)
    return forest(
        [
            Panel(
                [_line(c, row, by_target) for row in of_panel],
                f"Second minus first{f', {unit}' if unit else ''} (95 % interval)",
                0,
            )
            for unit, of_panel in panels.items()
        ]
    )


def _line(c: Compared, row: Row, by_target: bool) -> Line:
    colour, marker, filled = LOOKS[row.standing]
    text = wording.digits(row.difference.value, c.kind(row), signed=True)
    return Line(_name(c, row, by_target), row.difference, text, colour, marker, filled)


def _scale(c: Compared, row: Row) -> str:
    """Of what the axis is: '' of what has no unit."""
    return c.targets[row.target].unit or "in its unit" if row.metric == "mae" else ""


def _name(c: Compared, row: Row, by_target: bool) -> str:
    kind = c.kind(row)
    label = f"{kind.label}{'' if kind.higher_is_better else ' ↓'}"
    return f"{wording.first_upper(wording.words(row.target))}: {label}" if by_target else label


def _render(c: Compared, figures: dict[str, Drawn]) -> str:
    templates = pages.environment(
        cell=wording.cell,
        words=wording.words,
        first=wording.first_upper,
        whole=wording.whole,
        p=wording.p_value,
    )
    return templates.get_template("compare.html.j2").render(
        c=c,
        simulated=c.simulated,
        optimistic=c.optimistic,
        title=f"{c.second} minus {c.first}",
        heading=f"{c.second} minus {c.first}: two evaluated runs, paired over people",
        images={stem: pictures.shown(drawn, "") for stem, drawn in figures.items()},
        top=verdict(c, c.deciding[0]),
        verdicts={row.target: verdict(c, row) for row in c.deciding},
        differing=differing(c),
        remarks=remarks(c),
        recipes={key: [_value(v) for v in both] for key, both in c.recipes.items()},
        trained=[_sets(s, names) for s, (names, _) in zip(c.sets, c.tested, strict=True)],
    )
