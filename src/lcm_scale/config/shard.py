"""The recipe of a shard set: raw files to FC matrices and BEI records.

Loaded by `config.load(ShardRecipe, path, overrides)`, as every recipe is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lcm_scale.config.fields import (
    COLUMN_NAME,
    FILLED,
    GLOB,
    GROUP_NAME,
    ONE_GROUP,
    SET_NAME,
    SEX,
    SUBJECT_GROUP,
    at_least,
    between,
    choice,
    dotted,
    free,
    one_of,
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
    # table: the CSV that lists the files; mat, names, auckland, bids, fmriprep: one of people,
    # joined by subject
    table: str | None = text(FILLED, None)
    pattern: str | None = text(GLOB, None)  # mat, names: glob of the files below dir
    # mat, npz: the variable; found where there is one candidate
    key: str | None = text(FILLED, None)
    # mat: regular expression with one group, the subject id, on the file name
    subject_pattern: str | None = text(ONE_GROUP, None)
    # names: regular expression on a file's path below dir; its groups by name are the subject, and
    # where they occur session, run, site and labels
    names: str | None = text(SUBJECT_GROUP, None)
    file: str | None = text(FILLED, None)  # stack: the .npy, .npz or .mat of many scans
    # stack: which of the array's three sides counts the scans, or that a row of a table is a scan's
    # matrix; it must be said
    stack: str = choice("unset", "first", "last", "rows")
    # stack: `rows`, the table's rows are the scans in their order; or the variable of ids
    ids: str | None = text(FILLED, None)
    # conn: the ROI file whose regions are taken, as CONN's names begin: atlas, networks
    rois: str | None = text(FILLED, None)
    # dpabi: read ROICorrelation_FisherZ_* and turn z into r; without it such files are refused
    fisher_z: bool = False
    kind: str = choice("series", "connectivity")  # mat, table, names, auckland: what files hold
    # of text files with a header: names say which region a column is; position: their order does
    order: str = choice("names", "position")
    # of series whose sides cannot tell: as many volumes as regions
    orientation: str = choice("auto", "time_by_region", "region_by_time")
    # of ready matrices given as a vector: which triangle, row by row
    triangle: str = choice("none", "upper", "lower")
    all_files: bool = False  # abide: also the files of people whose FILE_ID is no_filename
    age_unit: str = choice("years", "months")  # of the table's ages
    # the table's word -> M, F or '' (missing), beside m, male, f and female
    sex_map: dict[str, str] = text(SEX, {})
    # what a column says (subject, file, session, run, site, age, sex, tr, mean_fd, confounds) ->
    # its name, where it has no usual one or two could be meant
    columns: dict[str, str] = text(FILLED, {})
    tr: float | None = positive(None)  # seconds, where the files do not say
    site: str | None = free(None)  # where the files do not say
    # a scan whose file cannot be read or used ends it all, or is skipped, listed and counted
    on_error: str = choice("stop", "skip")
    # ids of one person each, as [[51450, 51451]]: on one side of every split
    same_person: list[list[str]] = text(FILLED, [])
    leave_out: list[str] = texts()  # ids, or files by name or end of path, that are not taken
    drop_columns: list[str] = texts()  # table: region columns to leave out (a global signal)
    # fmriprep: the label image whose values are the atlas's indices (.nii, .nii.gz)
    labels_image: str | None = text(FILLED, None)
    # bids, fmriprep: entity -> the pattern that its word fits, '' for names without it ({desc: ''})
    entities: dict[str, str] = free({})
    # bids: a scan each; a person's runs of one task made one; or the file that a pipeline joined
    runs: str = choice("apart", "average", "joined")


@dataclass
class SimulationConfig:
    """A simulated cohort, written as raw files in the abide layout."""

    subjects: int = at_least(1, 200)  # people, one scan each
    sites: int = at_least(1, 4)  # among which they are spread
    seed: int = at_least(0, 0)  # of everything that is drawn
    volumes: int = at_least(2, 160)  # of a scan
    tr: float = positive(2.0)  # seconds
    group_effect: float = share(0.35)  # added correlation in the affected connections
    sex_effect: float = share(0.25)  # the same of sex
    age_effect: float = share(0.30)  # over the cohort's age range
    task_effect: float = share(0.35)  # eyes open against closed
    site_effect: float = share(0.15)  # share of a signal that a site adds
    missing_labels: float = share(0.1)  # share of ages, sexes and eye states left out
    # its number; two cohorts share nobody where their numbers differ
    first_subject: int = at_least(0, 50001)
    first_site: int = at_least(0, 0)  # another number is another scanner
    # 0: an effect is there or not, and can be read without error; else everybody has some of each,
    # and so many standard deviations lie between the classes (data/ceiling.py)
    separation: float = at_least(0, 0.0)
    # by which share the group's separation grows to the oldest, and differs between sites
    age_interaction: float = between(0, 1, 0.0)
    site_interaction: float = between(0, 1, 0.0)  # the second of these


@dataclass
class StrategyConfig:
    """reader fmriprep: which of fMRIPrep's confounds are regressed out, as nilearn's
    `load_confounds_strategy` chooses them. A parameter that is left empty is the strategy's own."""

    name: str = choice("none", "simple", "scrubbing", "compcor", "ica_aroma")  # as nilearn calls it
    # sets of parameters, as nilearn calls them
    motion: str | None = one_of("basic", "derivatives", "power2", "full")
    wm_csf: str | None = one_of("basic", "derivatives", "power2", "full")  # of white matter and CSF
    # of the mean of the brain
    global_signal: str | None = one_of("basic", "derivatives", "power2", "full")
    scrub: int | None = at_least(0, None)  # volumes: shorter stretches between outliers go too
    fd_threshold: float | None = positive(None)  # mm of framewise displacement
    std_dvars_threshold: float | None = positive(None)  # standardised DVARS
    # of which masks
    compcor: str | None = one_of(
        "anat_combined",
        "anat_separated",
        "temporal",
        "temporal_anat_combined",
        "temporal_anat_separated",
    )
    n_compcor: int | None = at_least(1, None)  # components; None: all that fMRIPrep kept


@dataclass
class CleanConfig:
    """What is done to the series before they are correlated, in this order; by default nothing.

    Volumes that move too much are bridged, trends and frequencies are taken out of series and
    confounds alike, the bridges are left out, and the confounds are regressed out (docs/data.md,
    Cleaning).
    """

    # mm of framewise displacement; volumes above it are left out and counted
    scrub_mm: float | None = positive(None)
    # column of a scan's confounds table that holds it, as fMRIPrep and XCP-D name it
    fd_column: str = text(FILLED, "framewise_displacement")
    detrend: bool = False  # take out a straight line
    high_pass: float | None = positive(None)  # Hz; slower changes are taken out. Needs the TR
    low_pass: float | None = positive(None)  # Hz; faster ones are
    nuisance: list[str] = texts()  # columns of a scan's confounds table that are regressed out
    strategy: StrategyConfig = field(default_factory=StrategyConfig)  # in place of nuisance


@dataclass
class ConnectivityConfig:
    """How series become matrices, a scan or a window at a time (docs/data.md, The matrices); what
    ready matrices are."""

    # of ready matrices (source.kind=connectivity) what they are, as their source says
    kind: str = choice(
        *("pearson", "ledoit-wolf", "partial", "covariance", "lagged"), plugins="connectivities"
    )
    lag: int = at_least(1, 1)  # lagged: volumes between one region and the other
    # volumes a window; None: one matrix from the whole series. One volume has no correlation.
    window: int | None = at_least(2, None)
    # volumes from one window's start to the next; None: the window's length, so that none overlap
    step: int | None = at_least(1, None)
    # this many windows at random places of each scan, in place of a row of them (augmentation)
    random_windows: int | None = at_least(1, None)
    random_seed: int = at_least(0, 0)  # of those places
    # last, short window: safe (correlate what is there), drop, reference (zero-padded raw BOLD)
    pad: str = choice("safe", "drop", "reference")
    # keep only the first volumes, so that scan length cannot tell the label
    crop: int | None = at_least(2, None)
    # a scan or window with fewer, scrubbed ones not counted, is skipped and counted
    min_volumes: int = at_least(2, 30)
    clean: CleanConfig = field(default_factory=CleanConfig)
    # Atlas indices of regions that are missing in half of the scans or more: such a region is a
    # question, and these two lists are its answers. Accepted ones stay, as rows of zeros; dropped
    # ones are left out of the set's atlas.
    accept_missing: list[int] = at_least(0, [])
    drop_regions: list[int] = at_least(0, [])  # the second of these lists


ALWAYS_SAID = ("kind", "window", "pad", "crop", "min_volumes")


def parameters(config: ConnectivityConfig) -> dict[str, Any]:
    """How matrices were made, as a manifest says it: those that manifests have always held, and
    every other one that is not at its default, so that what changes nothing changes no manifest."""
    given, usual = dotted(asdict(config)), dotted(asdict(ConnectivityConfig()))
    at_work = {
        "lag": config.kind == "lagged",
        "random_seed": config.random_windows is not None,
        "clean.fd_column": config.clean.scrub_mm is not None,
    }
    said = {key: given[key] for key in ALWAYS_SAID}
    return said | {
        key: value for key, value in given.items() if at_work.get(key, value != usual[key])
    }


def kind_of(connectivity: Mapping[str, Any]) -> str:
    """The kind of a set's matrices in words, from what its manifest says: sets of one word may be
    mixed. Manifests that say nothing are of Pearson correlations."""
    kind = str(connectivity.get("kind", "pearson"))
    return f"lagged by {connectivity.get('lag', 1)}" if kind == "lagged" else kind


@dataclass
class GroupConfig:
    """A label group: the column that readers put into `Recording.labels`."""

    name: str = text(GROUP_NAME, "")  # of the target
    column: str = text(COLUMN_NAME, "")  # default: the name
    labels: list[str] = texts()  # order of the categories; empty: sorted, as found
    # the table's word -> category, '' for a missing label; a word that is not in it is refused
    map: dict[str, str] = free({})
    default: str = free("N/A")  # what scans of data sets outside the group carry
    merge: bool = True  # unite with other sets' groups of other names that have these labels
    optional: bool = False  # leave the group out, and say so, where the data have no such label


@dataclass
class ScalarConfig:
    """A number of each scan that is to be predicted, beside age: a column of the table."""

    name: str = text(GROUP_NAME, "")  # of the target
    column: str = text(COLUMN_NAME, "")  # default: the name
    unit: str = free("")  # in words, as the report puts it
    # learn and predict its logarithm (reaction times, counts); reports stay in the unit
    log: bool = False
    missing: list[float] = free([])  # values that mean nothing was measured, beside -9999
    optional: bool = False  # leave the scalar out, and say so, where the data have no such number


@dataclass
class ContextConfig:
    """What is known of a scan's surroundings, neither predicted nor a token: its scanner, say,
    a medication, its motion. Stored beside the labels."""

    name: str = text(GROUP_NAME, "")  # as recipes and predict call it
    # default: the name; where the table has none of it, one of `context.FACTS` (mean_fd, tr ...)
    column: str = text(COLUMN_NAME, "")
    kind: str = choice("number", "category")  # what its values are
    unit: str = free("")  # number: in words
    # category: the table's word -> category, as in a group
    map: dict[str, str] = free({})
    missing: list[float] = free([])  # number: values that mean nothing was measured, beside -9999
    optional: bool = False  # leave it out, and say so, where nobody has a value


@dataclass
class QualityConfig:
    """Scans that are left out of the set, each with its reason; by default none (docs/data.md,
    Quality). What is not known of a scan leaves it in."""

    max_mean_fd: float | None = positive(None)  # mm of mean framewise displacement
    max_missing_regions: int | None = at_least(0, None)  # regions without data
    max_spikes: int | None = at_least(0, None)  # volumes at which the series jump
    max_mean_abs_r: float | None = positive(None)  # mean |r| of the edges
    # robust z of the distance from the mean of all scans that the others leave in
    max_distance: float | None = positive(None)


@dataclass
class ShardRecipe:
    """One shard set."""

    name: str = text(SET_NAME, "")  # of the set, and of its folder
    cohort: str = free("")  # default: the name
    # what the files are (docs/data.md, Readers)
    reader: str = choice(
        *("abide", "auckland", "bids", "conn", "dpabi", "fmriprep", "giga_connectome"),
        *("mat", "names", "stack", "table", "simulated"),
        plugins="readers",
    )
    source: SourceConfig = field(default_factory=SourceConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    atlas: str = text(FILLED, "aal116")  # a built-in name, a table, or NAME:REGIONS
    connectivity: ConnectivityConfig = field(default_factory=ConnectivityConfig)
    groups: list[GroupConfig] = sections()
    scalars: list[ScalarConfig] = sections()
    context: list[ContextConfig] = sections()
    quality: QualityConfig = field(default_factory=QualityConfig)
    sex: bool = True  # is a target
    age: bool = True  # is a target
    age_log: bool = False  # learn and predict the logarithm of age
    shards_dir: str = text(FILLED, "shards")  # where the set is written
    block: int = at_least(1, 128)  # scans a tar record
    shard_scans: int = at_least(1, 8192)  # scans a tar
    dtype: str = choice("float16", "float32")  # of the edges on the disk
    notes: list[str] = free([])  # what every report of the set must say

    def label_columns(self) -> list[str]:
        """The columns of the table that groups, scalars and context name."""
        named = [group.column or group.name for group in self.groups]
        named += [scalar.column or scalar.name for scalar in self.scalars]
        named += [context.column or context.name for context in self.context]
        return list(dict.fromkeys(named))
