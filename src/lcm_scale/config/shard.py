"""The recipe of a shard set: raw files to FC matrices and BEI records."""

from __future__ import annotations

from dataclasses import dataclass, field

from lcm_scale.config.fields import (
    GROUP_NAME,
    SET_NAME,
    choice,
    free,
    named,
    number,
    share,
)

PATH = "the reader says where nothing is there"
TEXT = "for people to read"
READERS = ("abide", "mat", "table", "simulated")
KINDS = ("series", "connectivity")
PADS = ("safe", "drop", "reference")


@dataclass
class SourceConfig:
    """Where raw files lie and how to read them; each reader uses the keys it names in its
    docstring."""

    # Folder of raw files.
    dir: str | None = free(None, PATH)
    # abide: the phenotype CSV.
    phenotypes: str | None = free(None, PATH)
    # table: the CSV that lists the files.
    table: str | None = free(None, PATH)
    # mat: glob of the files below dir.
    pattern: str | None = free(None, PATH)
    # mat, npz: the variable; found where there is one candidate.
    key: str | None = free(None, "the reader lists what a file holds")
    # mat: regular expression with one group, the subject id, on the file name.
    subject_pattern: str | None = free(None, "the reader compiles it and says what is wrong")
    # mat, table: what a file holds.
    kind: str = choice("series", KINDS)
    # Seconds, where the files do not say.
    tr: float | None = number(None, above=0, at_most=1000)
    # Where the files do not say.
    site: str | None = free(None, "a label")
    # table: region columns to leave out (a global signal).
    drop_columns: list[str] = free([], "the reader names those that are not there")


@dataclass
class SimulationConfig:
    """A simulated cohort, written as raw files in the abide layout."""

    subjects: int = number(200, at_least=1)
    sites: int = number(4, at_least=1)
    seed: int = number(0, at_least=0)
    volumes: int = number(160, at_least=2)
    # Seconds.
    tr: float = number(2.0, above=0)
    # Added correlation in the affected connections.
    group_effect: float = share(0.35)
    sex_effect: float = share(0.25)
    # Over the cohort's age range.
    age_effect: float = share(0.30)
    # Eyes open against closed.
    task_effect: float = share(0.35)
    site_effect: float = share(0.15)
    # Share of ages, sexes and eye states left out.
    missing_labels: float = share(0.1)
    first_subject: int = number(50001, at_least=0)


@dataclass
class ConnectivityConfig:
    """Pearson correlation per scan or per window (docs/model.md, section 7)."""

    # Volumes a window; None: one matrix from the whole series.
    window: int | None = number(None, at_least=1)
    # The last, short window: safe correlates what is there, drop leaves it out, reference pads raw
    # BOLD with zeros as published.
    pad: str = choice("safe", PADS)
    # Keep only the first volumes, so that scan length cannot tell the label.
    crop: int | None = number(None, at_least=1)
    # A shorter scan or window is skipped and counted.
    min_volumes: int = number(30, at_least=2)


@dataclass
class GroupConfig:
    """A label group: the column that readers put into `Recording.labels`."""

    # It names columns, files and groups of weights.
    name: str = named("", GROUP_NAME, "letters, digits, '-', '_', '.', '@', '+' and single spaces")
    # Default: the name.
    column: str = free("", "sharding names the columns that are there")
    # Order of the categories; empty: sorted, as found.
    labels: list[str] = free([], "sharding names a label that is not among them")
    # What scans of data sets outside the group carry.
    default: str = free("N/A", "the vocabulary refuses what is no category")
    # Unite with other sets' groups of other names that have these labels.
    merge: bool = free(True, "yes or no")


@dataclass
class ShardRecipe:
    """One shard set."""

    # A dot would end the key of a tar's records.
    name: str = named(
        "", SET_NAME, "letters, digits, - and _ alone, which a shard set's name holds"
    )
    # Default: the name.
    cohort: str = free("", "a label: people of one cohort are told apart by their ids")
    reader: str = choice("abide", READERS)
    source: SourceConfig = field(default_factory=SourceConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    atlas: str = free("aal116", "loading it lists the built in ones")
    connectivity: ConnectivityConfig = field(default_factory=ConnectivityConfig)
    groups: list[GroupConfig] = field(default_factory=list)
    sex: bool = free(True, "yes or no")
    age: bool = free(True, "yes or no")
    shards_dir: str = free("shards", "made where it is not there")
    # Scans a tar record.
    block: int = number(128, at_least=1)
    # Scans a tar.
    shard_scans: int = number(8192, at_least=1)
    dtype: str = choice("float16", ("float16", "float32"))
    notes: list[str] = free([], TEXT)
