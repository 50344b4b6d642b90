"""BIDS derivatives: tables of series or matrices under BIDS names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lcm_scale.data.readers.arrays import Table, read_array
from lcm_scale.data.readers.bids_names import BidsFile, differing, tables_below, without_joined
from lcm_scale.data.readers.bids_tables import root_of
from lcm_scale.layouts.found import Found, Question, Regions, shown
from lcm_scale.layouts.regions import numbered, regions_of

# Where XCP-D puts its tables of regions: up to 0.6, up to 0.12, and since 26.
TABLES = ("atlas-*dseg.tsv", "atlases/**/*dseg.tsv", "sourcedata/atlases/**/*dseg.tsv")
PEARSON = ("pearsoncorrelation", "correlation", "PearsonNilearn")  # stat-, measure- or desc-
MOST_ANSWERS = 12


def looks_like(folder: Path) -> Found | None:
    if not folder.is_dir():
        return None
    kind = "series"
    files = tables_below(folder, kind)
    if not files:
        kind = "connectivity"
        files = tables_below(folder, kind)
    files = [file for file in files if file.path.is_file()]
    if not files:
        return None
    kept, joined = without_joined(files, "apart")
    differ = differing_entities(kept)
    assumed = {key: words[0] for key, words in differ.items()}
    first = next(f for f in kept if all(f.entities.get(k, "") == w for k, w in assumed.items()))
    regions = _regions(first, _tables(folder))
    questions = [question_of(differ, kept)] if differ else []
    questions += _runs(kept)
    root = root_of(folder, None)
    if root is None:
        text = "where is participants.tsv? There is none in the folder or above it"
        questions.append(Question(text, ("table: FILE/participants.tsv",)))
    remarks = _atlases(kept, _tables(folder)) if "atlas" in differ else []
    if joined:
        remarks.append(f"{len(joined)} files of joined runs are left out, the single runs taken")
    said = {first.entities.get(key) for key in ("stat", "measure", "desc")}
    return Found(
        layout=f"BIDS derivatives{_pipeline(folder)}, {kind}",
        name=(root or folder.absolute()).name,
        reader="bids",
        source={"dir": shown(folder)} | ({"kind": kind} if kind != "series" else {}),
        regions=regions,
        connectivity="pearson" if kind == "connectivity" and said & set(PEARSON) else None,
        questions=tuple(questions),
        assumed={"entities": assumed} if assumed else {},
        remarks=tuple(remarks),
    )


def _atlases(files: Sequence[BidsFile], tables: Sequence[Path]) -> list[str]:
    """For each atlas of the names, which `atlas` of the recipe goes with it."""
    first = {file.entities.get("atlas", ""): file for file in reversed(files)}
    remarks = []
    for word in sorted(first):
        regions = _regions(first[word], tables)
        remarks.append(f"for {word or 'no atlas'}: atlas: {regions.atlas or 'a table of regions'}")
    return remarks


def differing_entities(files: Sequence[BidsFile]) -> dict[str, list[str]]:
    """Entity -> its words, for those in which files of one scan differ anywhere."""
    scans: dict[tuple[str, ...], list[BidsFile]] = {}
    for file in files:
        scans.setdefault(file.scan(), []).append(file)
    keys = dict.fromkeys(key for of_one in scans.values() for key in differing(of_one))
    return {key: sorted({file.entities.get(key, "") for file in files}) for key in keys}


def question_of(differ: dict[str, list[str]], files: Sequence[BidsFile]) -> Question:
    """Which files of a scan are meant: a line for each combination that there is."""
    keys = list(differ)
    combinations = dict.fromkeys(file.scan(keys) for file in files)
    lines = []
    for words in sorted(combinations)[:MOST_ANSWERS]:
        inside = ", ".join(f"{k}: {w or repr('')}" for k, w in zip(keys, words, strict=True))
        lines.append(f"entities: {{{inside}}}")
    return Question(
        f"the files of a scan differ in {' and '.join(keys)}: which are meant? Take the # from one "
        "line, and see that the atlas below fits it",
        tuple(lines),
    )


def _runs(files: Sequence[BidsFile]) -> list[Question]:
    runs = {file.entities.get("run") for file in files} - {None}
    if len(runs) < 2:
        return []
    text = f"{len(runs)} runs: each is a scan of its own; average makes one of a person's runs"
    return [Question(text, ("runs: average",))]


def _regions(file: BidsFile, tables: Sequence[Path]) -> Regions:
    data: Table = read_array(file.path)
    return (
        regions_of(data, tables)
        if data.columns
        else numbered(data.values.shape[1], file.entities.get("atlas", "regions"))
    )


def _tables(folder: Path) -> list[Path]:
    return [path for pattern in TABLES for path in sorted(folder.glob(pattern))]


def _pipeline(folder: Path) -> str:
    name = folder.absolute().name
    return "" if name == "derivatives" else f" in {name}"
