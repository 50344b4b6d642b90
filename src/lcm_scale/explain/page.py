"""Written down: one self-contained page, tables, figures and images, in the run's `explain/`.

The first sentences say for each target whether anything differs from noise. `explain.json` names
the figures with their captions and tables, for the evaluation's report.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from lcm_scale.csv_text import csv_text
from lcm_scale.explain import brains, tables, wording
from lcm_scale.explain.figures import DASH, OfToken, change, figures
from lcm_scale.explain.found import Found, TokenMap
from lcm_scale.explain.levels import EDGES, PAIRS, REGIONS
from lcm_scale.files import write_atomic
from lcm_scale.report import pages, pictures, style
from lcm_scale.report.explained import FACTS, FOLDER, FORMAT, PAGE
from lcm_scale.report.wording import first_upper, stamped
from lcm_scale.weights.checkpoints import mark_of

LISTED = 10  # regions or pairs in a table
MOST_TURNED = 4  # connectomes that can be turned, of 2.5 MB each


def write(found: Found, atlas_image: Path | None) -> Path:
    """Write everything, each file whole or not at all, the page last.

    Args: atlas_image: the atlas's label image, for images of regional values.
    Returns: the page.  Raises: InputError where something cannot be written.
    """
    folder = found.run.folder / FOLDER
    places = brains.centres(found.levels.atlas, atlas_image)
    drawn = list(figures(found, places))
    confounded = found.run.recipe.evaluate.confounded
    for each in drawn:
        words = stamped(found.run.opened.sets.simulated, each.token.target in confounded)
        style.stamp(each.drawn.figure, words)
    pictures.write([each.drawn for each in drawn], folder / "figures")
    for name, rows in (
        ("edges.csv", tables.edge_rows(found, found.tokens)),
        ("regions.csv", tables.region_rows(found, found.tokens)),
        ("network_pairs.csv", tables.pair_rows(found, found.tokens)),
        ("stability.csv", tables.stability_rows(found)),
    ):
        text = csv_text(rows)
        if text:
            write_atomic(folder / name, text.encode())
        else:  # no networks
            (folder / name).unlink(missing_ok=True)
    for old in folder.glob("*.nii.gz"):  # of an earlier call, perhaps of other targets
        old.unlink()
    if atlas_image is not None:
        for token in found.tokens:
            for name, values in brains.image_values(token).items():
                stem = pictures.file_name(f"{token.stem}-{name}")
                path = folder / f"{stem}.nii.gz"
                brains.write_image(values, found.levels.atlas, atlas_image, path)
    write_atomic(folder / FACTS, json.dumps(_facts(found, drawn), indent=1).encode())
    page = folder / PAGE
    write_atomic(page, _render(found, drawn, places, atlas_image).encode())
    return page


def _facts(found: Found, drawn: Sequence[OfToken]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "sentences": wording.first_sentences(found),
        "permutations": found.options.permutations,
        "models": {
            _within(one.model.path, found.run.folder): mark_of(one.model.path)
            for one in found.run.models
        },
        "fingerprints": found.run.opened.sets.fingerprints,
        "figures": [
            {
                "target": each.token.target,
                "title": wording.title(each.token),
                "caption": each.caption,
                "file": each.drawn.name,
            }
            for each in drawn
        ],
    }


def _within(path: Path, folder: Path) -> str:
    return path.absolute().relative_to(folder.absolute()).as_posix()


def _render(
    found: Found, drawn: Sequence[OfToken], places: np.ndarray | None, atlas_image: Path | None
) -> str:
    templates = pages.environment("explain", first=first_upper)
    turned = 0
    sections = []
    for token in found.tokens:
        turnable = ""
        if places is not None and turned < MOST_TURNED:
            turnable = brains.turnable(found, token, places)
            turned += bool(turnable)
        images = [each for each in drawn if each.token is token]
        sections.append(
            {
                "token": token,
                "title": wording.title(token),
                "verdict": first_upper(wording.verdict(token, found.options.permutations)),
                "agreements": [
                    wording.agreement(a, found.options.permutations)
                    for a in (token.memory.agreements if token.memory else ())
                ],
                "memory": [_shown(each) for each in images if not each.decoder],
                "looked": [_shown(each) for each in images if each.decoder],
                "rows": _top(found, token),
                "decoder": wording.decoder(token),
                "within": wording.within(token),
                "turnable": Markup(
                    '<iframe sandbox="allow-scripts" title="{}" srcdoc="{}"></iframe>'
                ).format(wording.title(token), Markup(escape(turnable)))
                if turnable
                else "",
            }
        )
    run = found.run
    return templates.get_template("explain.html.j2").render(
        title=f"{run.recipe.title or run.folder.name}: what each token uses",
        found=found,
        simulated=run.opened.sets.simulated,
        confounded=run.recipe.evaluate.confounded,
        sentences=wording.first_sentences(found),
        sections=sections,
        places=places is not None,
        image=atlas_image is not None,
    )


def _top(found: Found, token: TokenMap) -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """The values that differ on each level, the largest first: name, change, z, p."""
    listed = []
    for level, own in token.levels.items():
        some = np.flatnonzero(own.differs)
        some = some[np.argsort(-np.abs(own.z[some]))]
        rows = [
            (
                _name(found, level, int(i)),
                wording.signed(float(change(token, level)[i]), 3 if level == EDGES else 4),
                wording.signed(float(own.z[i]), 1),
                wording.signed(float(own.p[i]), 3),
            )
            for i in some[:LISTED]
        ]
        if rows:
            more = f"{level}, the {LISTED} furthest of {len(some)}" if len(some) > LISTED else level
            listed.append((more, rows))
    return listed


def _name(found: Found, level: str, number: int) -> str:
    atlas = found.levels.atlas
    if level == REGIONS:
        return atlas.label(number)
    if level == PAIRS:
        a, b = found.levels.pairs[number]
        return f"within {a}" if a == b else f"{a} {DASH} {b}"
    one, two = (int(end[number]) for end in np.triu_indices(atlas.n_regions, 1))
    return f"{atlas.label(one)} {DASH} {atlas.label(two)}"


def _shown(each: OfToken) -> tuple[Markup, str]:
    return pictures.shown(each.drawn), each.caption
