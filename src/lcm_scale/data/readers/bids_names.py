"""BIDS names: what the files of a folder are of, and which of them is a scan's.

`sub-01_ses-1_task-rest_run-01_space-MNI_atlas-Tian_stat-mean_timeseries.tsv` is read as entities (a
key and a word each) and a suffix. Nothing is fixed about the entities beyond those that tell scans
apart, so that HALFpipe's `feature-` and C-PAC's `reg-` are seen as any other. XCP-D 0.7 to 0.12
writes `seg-` for what it called `atlas-` before and after: both are `atlas`. Several files of one
scan (two atlases, say) are a question that the recipe's source.entities answers; none is taken
silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lcm_scale.data.readers.arrays import TEXT
from lcm_scale.errors import InputError, nearest

SUFFIXES = {
    "series": ("timeseries",),
    # XCP-D's, its releases before 0.7, HALFpipe's and C-PAC's
    "connectivity": ("relmat", "conmat", "matrix", "correlations"),
}
OTHER_TABLES = ("confounds", "design", "contrast")  # desc- of tables with the same suffixes
RUN = ("dir", "run")  # what tells the runs of one task apart
SCAN = ("sub", "ses", "task", "acq", "ce", "rec", *RUN)  # what tells scans apart
SYNONYMS = {"seg": "atlas"}
SUFFIX = "suffix"  # kept beside the entities, so that a recipe may name it
LISTED = 6  # values that a message names


@dataclass(frozen=True)
class BidsFile:
    """A file and what its name says: key -> word, the suffix among them under `suffix`."""

    path: Path
    entities: Mapping[str, str]

    def scan(self, keys: Sequence[str] = SCAN) -> tuple[str, ...]:
        """The words of those entities, '' where the name lacks one."""
        return tuple(self.entities.get(key, "") for key in keys)

    def named(self, keys: Sequence[str]) -> str:
        """Those entities as the name has them: `task-rest_run-01`."""
        return "_".join(f"{key}-{self.entities[key]}" for key in keys if key in self.entities)


def parse(path: Path) -> BidsFile | None:
    """None where the name is no BIDS name."""
    *pairs, suffix = path.name.partition(".")[0].split("_")
    entities: dict[str, str] = {}
    for pair in pairs:
        key, dash, word = pair.partition("-")
        if not (key and dash and word):
            return None
        entities[SYNONYMS.get(key, key)] = word
    return BidsFile(path, entities | {SUFFIX: suffix})


def tables_below(folder: Path, kind: str) -> list[BidsFile]:
    """Every text table of series or matrices (`SourceConfig.kind`) below a folder, by path; a link
    whose target is not there (DataLad's, before `get`) is among them."""
    found = []
    for path in sorted(folder.rglob("sub-*")):
        file = parse(path) if path.suffix.lower() in TEXT else None
        if (
            file is not None
            and file.entities[SUFFIX] in SUFFIXES[kind]
            and file.entities.get("desc") not in OTHER_TABLES
            and (path.is_file() or path.is_symlink())
        ):
            found.append(file)
    return found


def chosen(files: Sequence[BidsFile], wanted: Mapping[str, str], folder: Path) -> list[BidsFile]:
    """The files whose words fit the recipe's patterns; '' fits a name without the entity.

    Raises: InputError where a pattern leaves nothing.
    """
    for key, pattern in wanted.items():
        key = SYNONYMS.get(key, key)
        pattern = pattern.removeprefix(f"{key}-")
        words = sorted({file.entities.get(key, "") for file in files})
        files = [file for file in files if fnmatchcase(file.entities.get(key, ""), pattern)]
        if not files:
            raise InputError(
                f"{folder}: source.entities.{key}='{pattern}' leaves no file"
                f"{nearest(pattern, words)} (there: {_listed(words)})"
            )
    return list(files)


def one_a_scan(files: Iterable[BidsFile]) -> list[BidsFile]:
    """The files, where each is the only one of its scan.

    Raises: InputError naming the entities in which files of one scan differ, and the key that
        chooses.
    """
    scans: dict[tuple[str, ...], list[BidsFile]] = {}
    for file in files:
        scans.setdefault(file.scan(), []).append(file)
    for of_one in scans.values():
        if len(of_one) > 1:
            raise _question(of_one)
    return [of_one[0] for of_one in scans.values()]


def differing(files: Sequence[BidsFile]) -> dict[str, list[str]]:
    """Entity -> its words, '' for none, for those in which the files of one scan differ."""
    keys = dict.fromkeys(key for file in files for key in file.entities)
    words = {key: sorted({file.entities.get(key, "") for file in files}) for key in keys}
    return {key: found for key, found in words.items() if len(found) > 1}


def _question(files: Sequence[BidsFile]) -> InputError:
    scan = files[0].named(SCAN)
    differ = differing(files)
    if not differ:
        folders = _listed(sorted({str(file.path.parent) for file in files}))
        return InputError(
            f"{scan}: {len(files)} files of one scan have the same name ({folders}); name one "
            "pipeline's folder with source.dir"
        )
    found = "; ".join(f"{key} ({_listed(words)})" for key, words in differ.items())
    answer = ", ".join(f"{key}: {words[-1]}" for key, words in differ.items())
    return InputError(
        f"{scan}: {len(files)} files of one scan differ in {found}; choose with "
        f"source.entities, for example {{{answer}}}"
    )


def without_joined(
    files: Sequence[BidsFile], runs: str
) -> tuple[list[BidsFile], list[tuple[BidsFile, str]]]:
    """Files of single runs, or those that a pipeline joined from them: both hold the same volumes.

    XCP-D's `--combine-runs` writes a file without run (and dir) beside those of the runs.
    Args: runs: the recipe's `source.runs`; `joined` takes the joined one where there is one.
    Returns: the files that are kept; those that are not, each with the reason.
    """
    keys = [key for key in SCAN if key not in RUN]
    by_task: dict[tuple[str, ...], list[BidsFile]] = {}
    for file in files:
        by_task.setdefault(file.scan(keys), []).append(file)
    left: list[tuple[BidsFile, str]] = []
    for of_task in by_task.values():
        joined = [file for file in of_task if not any(file.scan(RUN))]
        single = [file for file in of_task if any(file.scan(RUN))]
        if joined and single and runs == "joined":
            left += [
                (file, "run that is in a file of joined runs (source.runs)") for file in single
            ]
        elif joined and single:
            left += [
                (file, "file of joined runs, which are there apart (source.runs: joined takes it)")
                for file in joined
            ]
    gone = {file.path for file, _ in left}
    return [file for file in files if file.path not in gone], left


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - LISTED} more" if len(words) > LISTED else ""
    return ", ".join(word or "none" for word in words[:LISTED]) + more
