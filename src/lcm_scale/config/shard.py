"""The recipe of a shard set: raw files to FC matrices and BEI records.

Loaded by `config.load(ShardRecipe, path, overrides)`, as every recipe is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lcm_scale.config.fields import (
    COLUMN_NAME,
    FILLED,
    GLOB,
    GROUP_NAME,
    ONE_GROUP,
    SET_NAME,
    SUBJECT_GROUP,
    at_least,
    choice,
    free,
    positive,
    sections,
    share,
    text,
    texts,
)


@dataclass
class SourceConfig:
    """Where raw files lie and how to read them; each reader uses the keys it names in its
    docstring."""

    dir: str | None = text(FILLED, None)  # folder of raw files
    phenotypes: str | None = text(FILLED, None)  # abide: the phenotype CSV
    # table: the CSV that lists the files; mat, names, auckland: one of people, joined by subject
    table: str | None = text(FILLED, None)
    pattern: str | None = text(GLOB, None)  # mat, names: glob of the files below dir
    # mat, npz: the variable; found where there is one candidate
    key: str | None = text(FILLED, None)
    # mat: regular expression with one group, the subject id, on the file name
    subject_pattern: str | None = text(ONE_GROUP, None)
    # names: regular expression on a file's path below dir; its groups by name are the subject, and
    # where they occur session, run, site and labels
    names: str | None = text(SUBJECT_GROUP, None)
    kind: str = choice("series", "connectivity")  # mat, table, names, auckland: what files hold
    all_files: bool = False  # abide: also the files of people whose FILE_ID is no_filename
    age_unit: str = choice("years", "months")  # names, auckland: of the table's ages
    tr: float | None = positive(None)  # seconds, where the files do not say
    site: str | None = free(None)  # where the files do not say
    drop_columns: list[str] = texts()  # table: region columns to leave out (a global signal)


@dataclass
class SimulationConfig:
    """A simulated cohort, written as raw files in the abide layout."""

    subjects: int = at_least(1, 200)
    sites: int = at_least(1, 4)
    seed: int = at_least(0, 0)
    volumes: int = at_least(2, 160)
    tr: float = positive(2.0)
    group_effect: float = share(0.35)  # added correlation in the affected connections
    sex_effect: float = share(0.25)
    age_effect: float = share(0.30)  # over the cohort's age range
    task_effect: float = share(0.35)  # eyes open against closed
    site_effect: float = share(0.15)
    missing_labels: float = share(0.1)  # share of ages, sexes and eye states left out
    first_subject: int = at_least(0, 50001)


@dataclass
class ConnectivityConfig:
    """Pearson correlation per scan or per window (docs/model.md, Data sets and protocols)."""

    # volumes a window; None: one matrix from the whole series. One volume has no correlation.
    # of ready matrices what they are, as their source says
    kind: str = choice("pearson", "ledoit-wolf")
    window: int | None = at_least(2, None)
    # last, short window: safe (correlate what is there), drop, reference (zero-padded raw BOLD)
    pad: str = choice("safe", "drop", "reference")
    # keep only the first volumes, so that scan length cannot tell the label
    crop: int | None = at_least(2, None)
    min_volumes: int = at_least(2, 30)  # a shorter scan or window is skipped and counted


@dataclass
class GroupConfig:
    """A label group: the column that readers put into `Recording.labels`."""

    name: str = text(GROUP_NAME, "")
    column: str = text(COLUMN_NAME, "")  # default: the name
    labels: list[str] = texts()  # order of the categories; empty: sorted, as found
    # the table's word -> category, '' for a missing label; a word that is not in it is refused
    map: dict[str, str] = free({})
    default: str = free("N/A")  # what scans of data sets outside the group carry
    merge: bool = True  # unite with other sets' groups of other names that have these labels


@dataclass
class ScalarConfig:
    """A number of each scan that is to be predicted, beside age: a column of the table."""

    name: str = text(GROUP_NAME, "")
    column: str = text(COLUMN_NAME, "")  # default: the name
    unit: str = free("")  # in words, as the report puts it
    missing: list[float] = free([])  # values that mean nothing was measured, beside -9999


@dataclass
class ShardRecipe:
    """One shard set."""

    name: str = text(SET_NAME, "")
    cohort: str = free("")  # default: the name
    reader: str = choice("abide", "auckland", "mat", "names", "table", "simulated")
    source: SourceConfig = field(default_factory=SourceConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    atlas: str = text(FILLED, "aal116")
    connectivity: ConnectivityConfig = field(default_factory=ConnectivityConfig)
    groups: list[GroupConfig] = sections()
    scalars: list[ScalarConfig] = sections()
    sex: bool = True
    age: bool = True
    shards_dir: str = text(FILLED, "shards")
    block: int = at_least(1, 128)  # scans a tar record
    shard_scans: int = at_least(1, 8192)  # scans a tar
    dtype: str = choice("float16", "float32")
    notes: list[str] = free([])

    def label_columns(self) -> list[str]:
        """The columns of the table that groups and scalars name."""
        named = [group.column or group.name for group in self.groups]
        named += [scalar.column or scalar.name for scalar in self.scalars]
        return list(dict.fromkeys(named))
