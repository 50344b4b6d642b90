"""What `lcm-scale explain` found, as a section of the evaluation's report.

Maps are made after the report, and an evaluation may be repeated after them. So the section stands
between two marks: the report writes it where an explanation is there already, and `renew` puts it
into a report that is written.
"""

from __future__ import annotations

from pathlib import Path

from lcm_scale.errors import InputError
from lcm_scale.files import write_atomic
from lcm_scale.report import pages, pictures, wording
from lcm_scale.report.explained import ExplainedRun, explained

REPORT = "report.html"
BEGIN, END = "<!-- explain -->", "<!-- /explain -->"


def section(found: ExplainedRun | None, run: Path) -> str:
    """The section between its marks, which alone stand there where nobody has explained the run.

    Args: found: its explanation.   run: its folder.
    Raises: InputError where a figure that it names cannot be read.
    """
    if found is None:
        return f"{BEGIN}{END}"
    by_target: dict[str, list[tuple[str, object]]] = {}
    for figure in found.figures:
        alt = f"{figure.title}. {figure.caption}"
        files = [each.relative_to(run).as_posix() for each in (figure.png, figure.svg, figure.csv)]
        shown = pictures.shown_file(_read(figure.svg), alt, figure.caption, files)
        by_target.setdefault(figure.target, []).append((figure.title, shown))
    templates = pages.environment(words=wording.words, first=wording.first_upper)
    text = templates.get_template("explain_section.html.j2").render(
        sentences=found.sentences,
        page=found.page.relative_to(run).as_posix(),
        by_target=by_target,
    )
    return f"{BEGIN}\n{text}\n{END}"


def renew(run: Path) -> bool:
    """Put the section into a run's report, in place of the one that stands there.

    Returns: whether there is a report with a place for it; older versions wrote none.
    Raises: InputError as `section` and `explained`, and where the report cannot be written.
    """
    page = run / REPORT
    if not page.is_file():
        return False
    before, begin, rest = _read(page).decode().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        return False
    write_atomic(page, f"{before}{section(explained(run), run)}{after}".encode())
    return True


def _read(path: Path) -> bytes:
    """Of a file that this program wrote: a page's lines hold whole pictures, too long for text from
    elsewhere."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); run lcm-scale explain again, or remove "
            "its folder"
        ) from error
