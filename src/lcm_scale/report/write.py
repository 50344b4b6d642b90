"""The report: one self-contained page whose first sentence is the verdict, and the same numbers as
JSON and CSV.

In come measured targets (metrics, paired differences, predictions) and facts about the run; out go
`report.html`, `results.json`, `results.csv`, `predictions.csv`, `methods.md`, `citations.bib`, and
every figure as PNG, SVG and CSV in `figures/`. The page needs no script and no other file. Whatever
is simulated or confounded says so in the title, in every table and in every figure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from lcm_scale.csv_text import csv_text
from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.evaluation.results import Report
from lcm_scale.evaluation.subgroups import LEAST_PEOPLE
from lcm_scale.files import write_atomic
from lcm_scale.report import explain_section, methods, numbers, pages, pictures, wording
from lcm_scale.report.citations import Citation, citations
from lcm_scale.report.conformal_rows import conformal_rows
from lcm_scale.report.confound_rows import confound_rows
from lcm_scale.report.explained import explained
from lcm_scale.report.figures import LABELS, TRAINING, figures_of
from lcm_scale.report.pictures import Drawn
from lcm_scale.report.standings import standings
from lcm_scale.report.verdict import verdict


def write_report(report: Report, folder: Path) -> Path:
    """Write the page, its figures and the numbers into `folder`, each file whole or not at all, the
    page last.

    Returns: the path of ``report.html``.  Raises: InputError where the folder cannot be written.
    """
    figures = list(figures_of(report))
    pictures.write(figures, folder / "figures")
    results = json.dumps(
        numbers.plain(numbers.results(report)), indent=1, ensure_ascii=False, allow_nan=False
    )
    write_atomic(folder / "results.json", results.encode())
    write_atomic(folder / "results.csv", csv_text(numbers.result_rows(report)).encode())
    write_atomic(folder / "predictions.csv", csv_text(numbers.prediction_rows(report)).encode())
    beside = {
        "subgroups.csv": list(numbers.subgroup_rows(report)),
        "confounds.csv": list(confound_rows(report)),
        "conformal.csv": list(conformal_rows(report)),
        "labels.csv": list(numbers.label_rows(report)),
    }
    for name, rows in beside.items():
        if rows:
            write_atomic(folder / name, csv_text(rows).encode())
        else:  # of an earlier report that was asked for it
            (folder / name).unlink(missing_ok=True)
    found = explained(folder)
    works = citations(report.methods, explained=found is not None) if report.methods else []
    if works:
        write_atomic(folder / "methods.md", methods.markdown(report, works).encode())
        bibtex = "\n".join(work.bibtex for work in works)
        write_atomic(folder / "citations.bib", bibtex.encode())
    page = folder / explain_section.REPORT
    maps = Markup(explain_section.section(found, folder))
    write_atomic(page, _render(report, figures, works, maps).encode())
    return page


def _render(
    report: Report, figures: Sequence[Drawn], works: Sequence[Citation], maps: Markup
) -> str:
    """The page as HTML, every text escaped.  Args: maps: what the model uses, as HTML."""
    templates = pages.environment(
        cell=wording.cell,
        label=wording.label,
        fact=wording.fact,
        words=wording.words,
        better=wording.better,
        first=wording.first_upper,
        whole=wording.whole,
        p=wording.p_value,
        permutation=wording.permutation,
        digits=wording.digits,
    )
    images: dict[str, list[Markup]] = {}
    for drawn in figures:
        if drawn.target:
            images.setdefault(drawn.target, []).append(pictures.shown(drawn))
    curves = {drawn.stem: pictures.shown(drawn) for drawn in figures if not drawn.target}
    ordered = sorted(report.targets, key=lambda t: t.target != report.headline)
    return templates.get_template("report.html.j2").render(
        report=report,
        simulated=report.simulated,
        optimistic=report.optimistic,
        title=report.title,
        targets=ordered,
        headline=ordered[0],
        verdicts={t.target: verdict(t, report.simulated, report.optimistic) for t in ordered},
        standings={t.target: standings(t, bool(report.optimistic)) for t in ordered},
        images=images,
        methods=methods.paragraphs(report),
        works=works,
        maps=maps,
        few=curves.get(LABELS),
        training=curves.get(TRAINING),
        audit=[
            wording.audit_row(row, {t.target: (t.kind, t.unit) for t in report.targets})
            for row in report.pseudo_labels
        ],
        audit_heads=[
            wording.AUDIT.get(key, wording.first_upper(wording.words(key)))
            for key in (report.pseudo_labels or [{}])[0]
        ],
        quality=wording.quality(report.quality),
        metrics=METRICS,
        least=LEAST_PEOPLE,
    )
