"""`inspect --html`: one self-contained page of what a shard set holds, before anything is trained
on it.

Who is in it, what is missing, what the matrices look like by group and by site, who is far from
everybody, what motion does, and how well site and motion alone tell each label. The page needs no
script and no other file; people stand in it by their hashed ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from markupsafe import Markup
from scipy.stats import spearmanr

from lcm_scale.data.audit import audit
from lcm_scale.evaluation.metrics import METRICS
from lcm_scale.evaluation.nuisance import ASKED, Told, told_by_nuisance
from lcm_scale.files import write_atomic
from lcm_scale.report import pages, pictures, set_plots, wording
from lcm_scale.report.set_facts import MOST_SITES, SetFacts, look_at
from lcm_scale.vocabulary import AGE, SEX

FAR = 5.0  # robust standard deviations from the cohort's mean, from which on a scan is named
LISTED = (10, 30)  # scans that are at least, and at most
LEAST_FOR_MOTION = 10  # scans
NO_LABEL = "no label"


def write_set_page(folder: Path, page: Path) -> None:
    """Look at a shard set and write the page, whole or not at all.

    Raises: InputError where the folder holds no set, or the page cannot be written.
    """
    facts = look_at(folder)
    write_atomic(page, _render(facts).encode(errors="xmlcharrefreplace"))


def _render(f: SetFacts) -> str:
    templates = pages.environment(words=wording.words, fact=wording.fact, first=wording.first_upper)
    told = told_by_nuisance(f.sets, f.index.mean_fd)
    site_limit, sites = _sites(f)
    return templates.get_template("set.html.j2").render(
        manifest=f.manifest,
        simulated=f.manifest.simulated,
        title=f"{f.manifest.name}: what the set holds",
        first_things=_first_things(f, told),
        people=_people(f),
        missing=_missing(f),
        context=_context(f),
        groups=_groups(f),
        site_limit=site_limit,
        sites=sites,
        more_sites=max(0, len(f.sets.sites) - MOST_SITES),
        group=f.group.name if f.group else "",
        brains=set_plots.can_draw_brains(f.sets.atlas),
        strongest=f"{set_plots.STRONGEST:.0%}",
        motion=_motion(f),
        outliers=_outliers(f),
        far=f"{FAR:g}",
        told=_told_rows(told),
        audit=audit(f.sets),
        skipped=f.manifest.quality.get("skipped", {}),
        quality=wording.quality({k: v for k, v in f.manifest.quality.items() if k != "skipped"}),
    )


def _first_things(f: SetFacts, told: list[Told]) -> list[str]:
    """What a reader should know before the rest."""
    n, people = f.manifest.scans, len(f.manifest.subjects)
    sites = len(f.sets.sites)
    where = f" at {sites} site{'' if sites == 1 else 's'}" if sites else ""
    lines = [f"{n:,} scans of {people:,} people{where}."]
    measured = [
        (t.metric.value, t, t.metric)
        for t in told
        if f.group and t.target == f.group.name and t.metric and np.isfinite(t.metric.value)
    ]
    if measured:
        _, strongest, metric = max(measured, key=lambda each: each[0])
        lines.append(
            f"{wording.first_upper(strongest.by)} alone: {wording.words(strongest.target)} with "
            f"AUROC {wording.show(metric, METRICS['class']['auroc'])}, where .5 is chance."
        )
    far = int((f.distance_z > FAR).sum())
    lines.append(
        f"{far or 'No'} scan{' is' if far < 2 else 's are'} farther than {FAR:g} robust standard "
        "deviations from the cohort's mean matrix."
    )
    out = sum(f.manifest.quality.get("skipped", {}).values())
    lines.append(f"{out:,} scans, files or rows left out." if out else "Nothing was left out.")
    return lines


# -- people and labels -----------------------------------------------------------------------------


def _people(f: SetFacts) -> tuple[Markup, list[Markup]]:
    """The sites, then sexes and ages."""
    sets = f.sets
    names = [*sets.sites, "unknown"]
    group = _labels(f, f.group.name) if f.group else np.full(sets.n_scans, "scans")
    site = np.array(names)[sets.site]
    listed_groups = (
        [g for g in (*f.group.categories, NO_LABEL) if (group == g).any()] if f.group else ["scans"]
    )
    counts = {
        name: {str(g): int(((site == name) & (group == g)).sum()) for g in listed_groups}
        for name in names
        if (site == name).any()
    }
    counts = dict(sorted(counts.items(), key=lambda item: -sum(item[1].values())))
    by = f" by {wording.words(f.group.name)}" if f.group else ""
    listed = "; ".join(f"{name} {sum(parts.values())}" for name, parts in counts.items())
    sites = pictures.image(
        set_plots.bars(counts, f"Scans{by}"), f"Scans of each site{by}: {listed}."
    )
    images = []
    sex = _labels(f, SEX) if SEX in sets.vocabulary.names else np.full(sets.n_scans, "sex unknown")
    sexes = {
        name: (sex == name) for name in ("M", "F", NO_LABEL, "sex unknown") if (sex == name).any()
    }
    said = ", ".join(f"{name} {rows.sum()}" for name, rows in sexes.items())
    if SEX in sets.vocabulary.names:
        figure = set_plots.bars(
            {n: {"scans": int(rows.sum())} for n, rows in sexes.items()}, "Scans"
        )
        images.append(pictures.image(figure, f"Scans by sex: {said}."))
    if AGE in sets.vocabulary.names:
        age = sets.labels[:, sets.vocabulary.names.index(AGE)]
        known = np.isfinite(age)
        values = {name: age[rows & known] for name, rows in sexes.items() if (rows & known).any()}
        if values:
            low, middle, high = np.percentile(age[known], [0, 50, 100])
            alt = f"Ages: {low:.0f} to {high:.0f} years, median {middle:.0f}; by sex: {said}."
            images.append(pictures.image(set_plots.ages(values, "Age, years"), alt))
    return sites, images


def _labels(f: SetFacts, name: str) -> np.ndarray:
    """(N,) the category in words."""
    target = f.sets.vocabulary[name]
    codes = f.sets.labels[:, f.sets.vocabulary.names.index(name)]
    words = np.array([*target.categories, NO_LABEL], dtype=object)
    return words[np.where(np.isfinite(codes), codes, len(words) - 1).astype(np.int64)]


def _missing(f: SetFacts) -> list[tuple[str, str, str, str]]:
    """(column, what it is, how many know it, the share that is missing)."""
    rows = [
        (t.name, "target", np.isfinite(f.sets.labels[:, i]))
        for i, t in enumerate(f.sets.vocabulary.targets)
    ]
    rows += [
        (c.name, "context", np.isfinite(f.sets.context[:, i]))
        for i, c in enumerate(f.sets.context_columns)
    ]
    rows += [
        ("site", "index", f.sets.site >= 0),
        ("mean framewise displacement", "index", np.isfinite(f.index.mean_fd)),
        ("volumes", "index", f.index.volumes > 0),
    ]
    return [
        (name, what, f"{known.sum():,}", f"{1 - known.mean():.1%}") for name, what, known in rows
    ]


def _context(f: SetFacts) -> dict[str, str]:
    said = {}
    for place, column in enumerate(f.sets.context_columns):
        if column.categories:
            counted = zip(column.categories, column.counts, strict=True)
            said[column.name] = ", ".join(f"{name} {n}" for name, n in counted)
        else:
            values = f.sets.context[:, place]
            low, middle, high = np.nanpercentile(values, [0, 50, 100])
            said[column.name] = (
                f"{low:.4g} to {high:.4g} {column.unit}".rstrip() + f", median {middle:.4g}"
            )
        said[column.name] += f"; no value {f.manifest.scans - column.known}"
    return said


# -- matrices --------------------------------------------------------------------------------------


def _drawn(f: SetFacts, edges: np.ndarray, limit: float, alt: str, views: str) -> Markup:
    """On the brain where regions have places, else as a matrix."""
    atlas = f.sets.atlas
    if set_plots.can_draw_brains(atlas):
        return pictures.image(set_plots.brain(edges, atlas, limit, views), alt, raster=True)
    return pictures.image(set_plots.matrix(edges, atlas, limit), alt, raster=True)


def _groups(f: SetFacts) -> list[tuple[str, Markup]]:
    """(caption, image): everybody's mean, then each group's and how it differs from all."""
    means = (f.everybody, *(f.by_group if len(f.by_group) > 1 else ()))
    limit = set_plots.limit_of([m.edges for m in means])
    shift = set_plots.limit_of([m.edges - f.everybody.edges for m in means[1:]])
    drawn = []
    for mean in means:
        name = mean.name or "Everybody"
        caption = f"{name}, mean of {mean.scans:,} scans; colours to ±{limit:.2f}"
        alt = f"Mean connectivity: {caption}"
        drawn.append((caption, _drawn(f, mean.edges, limit, alt, "lzr")))
        if mean.name:
            caption = f"{name} minus everybody; colours to ±{shift:.2f}"
            difference = mean.edges - f.everybody.edges
            alt = f"Connectivity: {caption}"
            drawn.append((caption, _drawn(f, difference, shift, alt, "lzr")))
    return drawn


def _sites(f: SetFacts) -> tuple[str, list[tuple[str, Markup]]]:
    """What the colours reach to, and (caption, image) of the largest sites: how each differs from
    everybody."""
    differences = [m.edges - f.everybody.edges for m in f.by_site]
    limit = set_plots.limit_of(differences)
    drawn = []
    for mean, difference in zip(f.by_site, differences, strict=True):
        caption = f"{mean.name}, {mean.scans:,} scans"
        alt = f"Connectivity of site {mean.name} minus everybody's, {mean.scans} scans"
        drawn.append((caption, _drawn(f, difference, limit, alt, "z")))
    return f"{limit:.2f}", drawn


# -- motion, outliers, nuisance --------------------------------------------------------------------


def _motion(f: SetFacts) -> tuple[str, Markup] | None:
    """(sentence, image), None where too few scans have a displacement."""
    known = np.isfinite(f.index.mean_fd)
    if known.sum() < LEAST_FOR_MOTION:
        return None
    fd, fc = f.index.mean_fd[known].astype(np.float64), f.mean_fc[known]
    rank = float(spearmanr(fd, fc).statistic)
    share = f"{(fd > 0.5).mean():.1%}"
    sentence = (
        f"Rank correlation of motion with the mean of the edges: {rank:+.2f} "
        f"(n = {known.sum():,} scans). Median displacement {np.median(fd):.2f} mm; {share} of the "
        "scans move more than 0.5 mm on average."
    ).replace("-0.", f"{wording.MINUS}0.")
    return sentence, pictures.image(
        set_plots.motion(fd, fc), f"Motion against mean connectivity. {sentence}"
    )


def _outliers(f: SetFacts) -> tuple[Markup, list[Mapping[str, str]]] | None:
    """(image, the farthest scans), None where no distance is known."""
    z = f.distance_z
    if not np.isfinite(z).any():
        return None
    known = np.flatnonzero(np.isfinite(z))
    count = min(max(int((z > FAR).sum()), LISTED[0]), LISTED[1])
    farthest = known[np.argsort(-z[known], kind="stable")][:count].tolist()
    image = pictures.image(
        set_plots.outliers(z, FAR),
        f"Distances from the cohort's mean: {int((z > FAR).sum())} scans beyond {FAR:g}, the "
        f"farthest {np.nanmax(z):.1f} robust standard deviations.",
    )
    return image, [_row(f, i) for i in farthest]


def _row(f: SetFacts, i: int) -> dict[str, str]:
    number = wording.fact
    row = {
        "Person (hashed)": f.sets.subjects[f.sets.subject[i]],
        "Site": f.sets.sites[f.sets.site[i]] if f.sets.site[i] >= 0 else "\N{EN DASH}",
        "Distance, SDs": f"{f.distance_z[i]:.1f}",
        "Mean FD, mm": f"{f.index.mean_fd[i]:.2f}" if np.isfinite(f.index.mean_fd[i]) else "",
        "Volumes": number(int(f.index.volumes[i])),
        "Mean of edges": f"{f.mean_fc[i]:.3f}".replace("-", wording.MINUS),
    }
    if f.quality is not None:
        table = f.quality.numbers
        row["Scan (hashed)"] = f.quality.scans[i]
        row["Spikes"] = number(table["spikes"][i])
        row["Regions without data"] = number(
            table["constant_regions"][i] + table["broken_regions"][i]
        )
    return row


def _told_rows(told: list[Told]) -> list[tuple[str, str, list[tuple[str, str, str]]]]:
    """(target, metric, [(by what, number or reason, n)])."""
    rows: dict[str, tuple[str, list[tuple[str, str, str]]]] = {}
    for t in told:
        cells = rows.setdefault(t.target, (t.label, []))[1]
        if t.metric is None:
            cells.append((t.by, t.why, ""))
        else:
            kind = next(k for k, name in ASKED.items() if METRICS[k][name].label == t.label)
            shown = wording.show(t.metric, METRICS[kind][ASKED[kind]])
            cells.append((t.by, shown, f"{t.metric.n_scans:,}"))
    return [(target, label, cells) for target, (label, cells) in rows.items()]
