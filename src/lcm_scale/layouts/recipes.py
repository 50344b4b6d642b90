"""What was found in a folder as two recipes with comments: of the shard set, and of a first run.

A value that the folder tells is written; one that it leaves open is a line that begins with
`# QUESTION`, with the possible answers below it as comments. The recipes load as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lcm_scale.data.kinds import CORRELATIONS
from lcm_scale.layouts.found import Found, Question
from lcm_scale.layouts.survey import Column, Survey
from lcm_scale.terminal import one_line

PLAIN = re.compile(r"[A-Za-z_./][\w./-]*")  # text that YAML reads as text, but for
WORDS_OF_YAML = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
LIKELY = re.compile(
    r"diag|dx|group|patient|case|condition", re.IGNORECASE
)  # the question of a study
FOLDS = 5
SHOWN = 8  # words of a column in a comment


def shard_recipe(found: Found, survey: Survey, name: str, atlas: str) -> str:
    """The YAML of the shard recipe.  Args: atlas: the built-in's name, or the table's path."""
    lines = [
        f"# {found.layout}, written by lcm-scale new",
        f"# {survey.scans} scans of {survey.people} people"
        if not survey.refused
        else f"# QUESTION: the scans are not listed: {survey.refused}",
        f"# lcm-scale shard recipes/data/{name}.yaml --dry-run",
        f"name: {name}",
        f"reader: {found.reader}",
        "source:",
        *(f"  {key}: {value_of(value)}" for key, value in found.source.items()),
        *(f"  {line}" for question in found.questions for line in _asked(question)),
        *_repetition(found, survey),
        f"# {found.regions.why}",
        *([f"# QUESTION: {found.regions.question}"] if found.regions.question else []),
        f"atlas: {value_of(atlas)}",
    ]
    if found.connectivity or found.source.get("kind") == "connectivity":
        lines.append(f"connectivity: {{kind: {found.connectivity or 'pearson'}}}")
    lines += _groups(survey) + _scalars(survey)
    lines += [f"# {remark}" for remark in found.remarks]
    if not survey.sexes:
        lines.append("# Nobody's sex is known.")
    if not survey.ages:
        lines.append("# Nobody's age is known.")
    if survey.others:
        lines.append(
            f"# Columns that are no targets here: {_listed(c.name for c in survey.others)}"
        )
    return _joined(lines)


def run_recipe(found: Found, survey: Survey, name: str, two_stage: bool) -> str:
    """The YAML of a first run: a small model with strong regularisation, judged in folds by person.

    Args: two_stage: whether recipes/optim/two_stage.yaml is there; its values are written out
        otherwise.
    """
    target, stratify, folds = _question_of(survey)
    lines = [
        f"# A first run on {name}, beside linear baselines: lcm-scale evaluate recipes/{name}.yaml",
        "# What the keys mean: docs/quickstart.md, Ask the question.",
        *(["defaults: [optim/two_stage]"] if two_stage else []),
        f"name: {name}",
        f"data: {{sets: [{name}], edges: fisher_z, validation: 0.15, not_applicable: false}}",
        f"model: {{preset: tiny, dropout: 0.2, input_dropout: 0.2, {_linear_part(found)}}}",
        "optim:",
        "  momentum: {lr: 5.0e-3}",
        "  adaptive: {lr: 1.0e-3, weight_decay: 1.0e-2}",
        *([] if two_stage else ["  clip_norm: 1.0"]),
        "objective: {scalar_weight: 1.0, scalar_scale: standardised}",
        "phases:",
        "  - {name: momentum, epochs: 3, stage: momentum, readout: mean}",
        "  - {name: adaptive, epochs: 27, stage: adaptive, readout: mean}",
        "trainer: {global_batch: 16, threads: 1} # more threads gain little at this size",
        "evaluate:",
    ]
    if target:
        lines.append(f"  target: {value_of(target)} # the question that the report opens with")
    else:
        lines.append("  # QUESTION: which target? No group, sex or age was found.")
        lines.append("  # target: NAME")
    lines.append(f"  folds: {folds}")
    if stratify:
        lines.append(f"  stratify: {value_of(stratify)} # its answers are spread over the folds")
    lines.append("  repeats: 3")
    lines.append("  final: true # and a model of everybody, for lcm-scale predict")
    return _joined(lines)


def _linear_part(found: Found) -> str:
    """What stands beside the decoder: people memory, which needs a tangent space, else edges."""
    kind = found.connectivity or "pearson"
    return "people_memory: linear" if kind in CORRELATIONS else "edge_branch: true"


def value_of(value: Any) -> str:
    """A value as YAML: text in quotes where YAML would read something else."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{value_of(k)}: {value_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_of, value)) + "]"
    if isinstance(value, str):
        plain = PLAIN.fullmatch(value) and value.lower() not in WORDS_OF_YAML
        return value if plain else json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _joined(lines: Iterable[str]) -> str:
    """Words of strangers' tables stand in comments, which no line end of theirs may end."""
    return "".join(f"{one_line(line)}\n" for line in lines)


def _asked(question: Question) -> list[str]:
    return [f"# QUESTION: {question.text}", *(f"# {answer}" for answer in question.answers)]


def _repetition(found: Found, survey: Survey) -> list[str]:
    if survey.trs or "tr" in found.source or found.source.get("kind") == "connectivity":
        return []
    return [
        "  # QUESTION: the repetition time in seconds? Only a band-pass needs it",
        "  # tr: 2.0",
    ]


def _groups(survey: Survey) -> list[str]:
    if not survey.groups:
        return ["# groups:  # no column has a few words that come back; age and sex need no group"]
    lines = ["groups: # merge: true unites it with other sets' groups that have the same labels"]
    for column in survey.groups:
        words = value_of(sorted(column.words))
        labels = "" if column.name == "site" else f", labels: {words}"
        lines.append(
            f"  - {{name: {value_of(column.name)}{labels}, merge: false}} # {_counts(column)}"
        )
    return lines


def _scalars(survey: Survey) -> list[str]:
    if not survey.scalars:
        return []
    lines = ["scalars: # QUESTION: is each of them to be predicted, and in which unit?"]
    for column in survey.scalars:
        numbers = [float(word) for word in column.words]
        lines.append(
            f'  - {{name: {value_of(column.name)}, unit: ""}} # {min(numbers):g} to '
            f"{max(numbers):g}, missing {column.missing}"
        )
    return lines


def _counts(column: Column) -> str:
    counted = [f"{word} {count}" for word, count in column.words.most_common(SHOWN)]
    more = [f"{len(column.words) - SHOWN} more"] if len(column.words) > SHOWN else []
    return ", ".join([*counted, *more, *([f"missing {column.missing}"] if column.missing else [])])


def _question_of(survey: Survey) -> tuple[str, str, int]:
    """The headline target, what the folds are stratified by, and how many there can be.

    A group that sounds like a diagnosis first, then any group but the site, then sex, then age.
    """
    groups = sorted(survey.groups, key=lambda c: (c.name == "site", not LIKELY.search(c.name)))
    if groups:
        rarest = min(groups[0].words.values())
        return groups[0].name, groups[0].name, max(2, min(FOLDS, rarest))
    if len(survey.sexes) == 2:
        return "sex", "sex", max(2, min(FOLDS, *survey.sexes.values()))
    return ("age" if survey.ages else ""), "", max(2, min(FOLDS, survey.people))


def _listed(names: Iterable[str]) -> str:
    listed: Sequence[str] = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
