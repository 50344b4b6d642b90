"""A model's answers as a table for people, and the JSON file beside it that says what they are.

In: a model and scans that were read. Out: two texts, which the caller writes. Ids are hashed but
where the user asks for his own; a person whom the model was trained on is marked, since what it
says of her is no prediction.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from lcm_scale import __version__
from lcm_scale.config import kind_of
from lcm_scale.csv_text import csv_text
from lcm_scale.data.quality import without_data
from lcm_scale.inference.asked import Model, answers_of
from lcm_scale.inference.incoming import MEASURED, Incoming, Kept, Named
from lcm_scale.vocabulary import Target
from lcm_scale.weights.cohort import FAR, Cohort, Range
from lcm_scale.weights.meaning import Meaning

NOTICE = (
    "Research software: no diagnosis. These numbers are a model's answers, not checked for any use "
    "on a person."
)
SIMULATED = "SIMULATED: no person was scanned."
YES, PERHAPS, NO, UNKNOWN = "yes", "perhaps", "no", "unknown"
TRAINED = {
    YES: "its people include this one, so that the answer is no prediction",
    PERHAPS: "its people include one of this id; whether that is this person is told by the study "
    "(cohort=NAME)",
    NO: "its people do not include this one",
    UNKNOWN: "the model's people cannot be compared: it is exported, imported, or hashed with "
    "another salt",
}
UNITS = {"volumes": "volumes", "tr": "s", "mean_fd": "mm", "regions_without_data": "regions"}
MEANT = {
    "volumes": "Volumes that entered the matrix",
    "tr": "Repetition time",
    "mean_fd": "Mean framewise displacement",
    "regions_without_data": "Regions that never change, or hold NaN or inf: rows of zeros",
    "spikes": "Volumes at which the series jump (DVARS above the box plot's whisker)",
    "mean_abs_r": "Mean absolute value of the edges between regions with data",
}
Rows = list[dict[str, object]]
Columns = dict[str, dict[str, Any]]  # column -> what the JSON file says of it


def predictions(
    model: Model,
    kept: Kept,
    scans: Incoming,
    edges: np.ndarray,
    answers: Mapping[str, np.ndarray],
    ids: bool = False,
) -> tuple[str, str]:
    """The table as CSV, a row a scan, and what it is as JSON.

    Args:
        edges: (n, E) as the model was asked, in its order.   answers: as of `asked.ask`.
        ids: whether the user's own ids and file names go into the table.
    """
    rows: Rows = [_who(name, ids) for name in scans.names]
    columns: Columns = {**(_IDS if ids else {}), **_NAMES}
    for part in (
        _trained(model.meaning, scans),
        _answered(model.meaning, answers),
        _compared(model.meaning, kept, scans, edges),
        _measured(scans),
        _context(model.meaning, scans),
    ):
        found, described = part
        columns |= described
        for row, more in zip(rows, found, strict=True):
            row |= more
    about = _about(model, kept, scans, edges) | columns
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    return csv_text(rows, tuple(columns)), text + "\n"


# -- columns ---------------------------------------------------------------------------------------

_IDS: Columns = {
    "id": {"Description": "The person's id as the user's files have it: not to be shared"},
    "file": {"Description": "The scan's file: not to be shared"},
}
_NAMES: Columns = {
    "subject": {"Description": "The person, hashed with the project's salt"},
    "scan": {"Description": "The scan, hashed with the project's salt"},
    "session": {"Description": "Session"},
    "run": {"Description": "Run"},
    "window": {"Description": "Window of the scan, from 0"},
}


def _who(name: Named, ids: bool) -> dict[str, object]:
    own = {"id": name.raw, "file": name.file} if ids else {}
    return own | {column: getattr(name, column) for column in _NAMES}


def _trained(meaning: Meaning, scans: Incoming) -> tuple[Rows, Columns]:
    comparable = meaning.subjects and meaning.salt_id == scans.salt_id

    def mark(name: Named) -> str:
        if comparable and name.subject in meaning.subjects:
            return YES
        if comparable and not meaning.subjects.isdisjoint(name.elsewhere):
            return PERHAPS
        return NO if comparable and not meaning.unknown_subjects else UNKNOWN

    about = {"Description": "Whether the model was trained on this person", "Levels": TRAINED}
    return [{"in_training": mark(name)} for name in scans.names], {"in_training": about}


def _answered(meaning: Meaning, answers: Mapping[str, np.ndarray]) -> tuple[Rows, Columns]:
    first = next(iter(answers.values()))
    rows: Rows = [{} for _ in first]
    columns: Columns = {}
    for name, found in answers.items():
        target = meaning.vocabulary[name]
        labels, head = answers_of(target), _head(target)
        if not target.is_class:
            columns[head] = {"Description": f"Predicted {name}", "Units": target.measured_in}
            for row, value in zip(rows, found, strict=True):
                row[head] = _number(value)
            continue
        columns[head] = {"Description": f"The likeliest {name}", "Levels": list(labels)}
        of_labels = [f"p({name}={label})" for label in labels]
        how = (
            ", calibrated on people who were not trained on" if name in meaning.calibration else ""
        )
        for label, column in zip(labels, of_labels, strict=True):
            columns[column] = {
                "Description": f"Probability that {name} is {label}{how}; those of {name} add up "
                "to 1",
                "Units": "probability",
            }
        for row, value in zip(rows, found, strict=True):
            row[head] = labels[int(value.argmax())]
            row |= {c: _number(p) for c, p in zip(of_labels, value, strict=True)}
    return rows, columns


def _head(target: Target) -> str:
    """A column's name: a scalar's has its unit."""
    unit = f" ({target.measured_in})" if target.measured_in else ""
    return f"answer: {target.name}{unit}"


def _compared(
    meaning: Meaning, kept: Kept, scans: Incoming, edges: np.ndarray
) -> tuple[Rows, Columns]:
    """How a scan differs from those that the model was trained on."""
    own, cohort = kind_of(kept.connectivity), meaning.cohort
    strange = f"{own} matrix, trained on {', '.join(meaning.kinds)}"
    always = [strange] if meaning.kinds and own not in meaning.kinds else []
    rows: Rows = [{} for _ in edges]
    columns: Columns = {}
    flags = [list(always) for _ in edges]
    if cohort is not None:
        distance = cohort.distance(edges)
        percent = cohort.percent(distance)
        for row, d, p in zip(rows, distance, percent, strict=True):
            row |= {"distance": _number(d), "distance_percent": _number(p)}
        columns = _distances(cohort)
        flags = [
            each + _odd(cohort, meaning, *one)
            for each, *one in zip(
                flags,
                distance,
                *(scans.measured[k] for k in _RANGED),
                without_data(edges),
                strict=True,
            )
        ]
    if cohort is not None or always:
        columns["flags"] = {
            "Description": "What differs from the training scans, separated by ';': the distance, "
            "length, repetition time, mean |r| or regions without data"
        }
        for row, each in zip(rows, flags, strict=True):
            row["flags"] = "; ".join(each)
    return rows, columns


_RANGED = ("volumes", "tr", "mean_abs_r")


def _odd(
    cohort: Cohort,
    meaning: Meaning,
    distance: float,
    volumes: float,
    seconds: float,
    size: float,
    missing: np.ndarray,
) -> list[str]:
    found = []
    if not distance <= cohort.threshold:  # no distance at all is far too
        found.append(f"far from the training people ({distance:.2f} > {cohort.threshold:.2f})")
    for name, value, known, unit, slack in (
        ("volumes", volumes, cohort.volumes, "", 0.1),
        ("repetition time", seconds, cohort.seconds, " s", 0.01),
        ("mean |r|", size, cohort.size, "", 1e-3),
    ):
        found += _outside(name, value, known, unit, slack)
    strange = [
        meaning.atlas.label(r)
        for r in np.flatnonzero(missing).tolist()
        if meaning.atlas.indices[r] not in cohort.missing
    ]
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        found.append(f"no data in {', '.join(strange[:3])}{more}")
    return found


def _outside(name: str, value: float, known: Range | None, unit: str, slack: float) -> list[str]:
    """Args: slack: share of its ends by which a value may lie outside the training scans' range."""
    if known is None or not np.isfinite(value):
        return []
    low, high = known
    if low * (1 - slack) <= value <= high * (1 + slack):
        return []
    span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    return [f"{name} {value:.3g}{unit}, trained on {span}{unit}"]


def _distances(cohort: Cohort) -> Columns:
    return {
        "distance": {
            "Description": "One minus the correlation of the scan's edges with the training "
            "people's mean edges",
            "Threshold": round(cohort.threshold, 6),
            "ThresholdIs": f"{FAR} % of {cohort.scans} training scans of {cohort.people} people "
            "are nearer, each measured from the mean of the other people",
        },
        "distance_percent": {
            "Description": "Training scans that are nearer to the mean of the other people",
            "Units": "%",
        },
    }


def _measured(scans: Incoming) -> tuple[Rows, Columns]:
    rows: Rows = [
        {name: _number(scans.measured[name][i]) for name in MEASURED}
        for i in range(len(scans.names))
    ]
    columns: Columns = {
        name: {"Description": MEANT[name]} | ({"Units": UNITS[name]} if name in UNITS else {})
        for name in MEASURED
    }
    return rows, columns


def _context(meaning: Meaning, scans: Incoming) -> tuple[Rows, Columns]:
    """What the model was told, and what it takes and was not told."""
    if not meaning.context:
        return [{} for _ in scans.names], {}
    columns: Columns = {
        f"context: {c.name}": {"Description": f"{c.name}, as the model was told"}
        | ({"Levels": list(c.categories)} if c.categories else {})
        for c in meaning.context
    }
    columns["context_not_known"] = {
        "Description": "Context that the model takes and that is not known of the scan, or known "
        "by a word that it was not trained with; it is asked as of the average training scan"
    }
    rows: Rows = []
    for told in scans.told:
        row: dict[str, object] = {}
        for column, value in zip(meaning.context, told, strict=True):
            known = np.isfinite(value)
            word = column.categories[int(value)] if known and column.categories else _number(value)
            row[f"context: {column.name}"] = word
        absent = [c.name for c, v in zip(meaning.context, told, strict=True) if not np.isfinite(v)]
        rows.append(row | {"context_not_known": "; ".join(absent)})
    return rows, columns


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""


# -- what the table is -----------------------------------------------------------------------------


def _about(model: Model, kept: Kept, scans: Incoming, edges: np.ndarray) -> dict[str, Any]:
    meaning = model.meaning
    people = len({name.subject for name in scans.names})
    simulated = scans.simulated or any(facts["simulated"] for facts in meaning.data)
    return {
        "Notice": f"{NOTICE} {SIMULATED}" if simulated else NOTICE,
        "GeneratedBy": [{"Name": "lcm-scale", "Version": __version__}],
        "Model": {
            "Name": model.name,
            "Fingerprint": model.fingerprint,
            "Phase": meaning.phase,
            "People": len(meaning.subjects) + meaning.n_unnamed,
            "OthersUnknown": meaning.unknown_subjects,
            "TrainedOn": [
                {
                    "Name": facts["name"],
                    "Scans": facts["scans"],
                    "People": facts["people"],
                    "Simulated": facts["simulated"],
                    "Connectivity": facts["connectivity"],
                    "Fingerprint": meaning.fingerprints.get(facts["name"], ""),
                }
                for facts in meaning.data
            ],
            "Atlas": {"Name": meaning.atlas.name, "Order": meaning.atlas.checksum},
            "EvaluatedBy": model.evaluated or "not known here",
        },
        "Scans": {
            "Source": kept.name,
            "Scans": len(scans.names),
            "People": people,
            "Edges": hashlib.sha256(np.ascontiguousarray(edges).data).hexdigest()[:16],
            "Connectivity": dict(kept.connectivity),
            "Atlas": {"Name": kept.atlas.name, "Order": kept.atlas.checksum},
            "LeftOut": dict(sorted(Counter(skip.why for skip in scans.skipped).items())),
            "Remarks": dict(sorted(scans.remarks.items())),
        },
    }
