"""Recipes: what a run or a shard set is, as typed dataclasses over OmegaConf YAML.

A recipe file may open with `defaults: [optim/two_stage]`: files of the same recipes folder laid
under it, in order, each merged into the section its folder names. `key=value` overrides come last;
`model=1b` is short for `model.preset=1b`, `data=[a,b]` for `data.sets=[a,b]`, `optim=reference`
lays `optim/reference.yaml` over the section. Values that follow from others are computed where they
are used, never repeated here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lcm_scale.errors import InputError, nearest

# -- shard sets: raw files to FC matrices and BEI records ------------------------------------------


@dataclass
class SourceConfig:
    """Where raw files lie and how to read them; each reader uses the keys it names in its
    docstring."""

    dir: str | None = None  # folder of raw files
    phenotypes: str | None = None  # abide: the phenotype CSV
    table: str | None = None  # table: the CSV that lists the files
    pattern: str | None = None  # mat: glob of the files below dir
    key: str | None = None  # mat, npz: the variable; found where there is one candidate
    subject_pattern: str | None = (
        None  # mat: regular expression with one group, the subject id, on the file name
    )
    kind: str = "series"  # mat, table: series or connectivity
    tr: float | None = None  # seconds, where the files do not say
    site: str | None = None  # where the files do not say
    drop_columns: list[str] = field(
        default_factory=list
    )  # table: region columns to leave out (a global signal)


@dataclass
class SimulationConfig:
    """A simulated cohort, written as raw files in the abide layout."""

    subjects: int = 200
    sites: int = 4
    seed: int = 0
    volumes: int = 160
    tr: float = 2.0
    group_effect: float = 0.35  # added correlation in the affected connections
    sex_effect: float = 0.25
    age_effect: float = 0.30  # over the cohort's age range
    task_effect: float = 0.35  # eyes open against closed
    site_effect: float = 0.15
    missing_labels: float = 0.1  # share of ages, sexes and eye states left out
    first_subject: int = 50001


@dataclass
class ConnectivityConfig:
    """Pearson correlation per scan or per window (REFERENCE section 4)."""

    window: int | None = None  # volumes a window; None: one matrix from the whole series
    pad: str = "safe"  # last, short window: safe (correlate what is there), drop, reference (zero-padded raw BOLD)
    crop: int | None = (
        None  # keep only the first volumes, so that scan length cannot tell the label
    )
    min_volumes: int = 30  # a shorter scan or window is skipped and counted


@dataclass
class GroupConfig:
    """A label group: the column that readers put into `Recording.labels`."""

    name: str = ""
    column: str = ""  # default: the name
    labels: list[str] = field(
        default_factory=list
    )  # order of the categories; empty: sorted, as found
    default: str = "N/A"  # what scans of data sets outside the group carry
    merge: bool = True  # unite with other sets' groups of other names that have these labels


@dataclass
class ShardRecipe:
    """One shard set."""

    name: str = ""
    cohort: str = ""  # default: the name
    reader: str = "abide"  # abide, mat, table, simulated
    source: SourceConfig = field(default_factory=SourceConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    atlas: str = "aal116"
    connectivity: ConnectivityConfig = field(default_factory=ConnectivityConfig)
    groups: list[GroupConfig] = field(default_factory=list)
    sex: bool = True
    age: bool = True
    shards_dir: str = "shards"
    block: int = 128  # scans a tar record
    shard_scans: int = 8192  # scans a tar
    dtype: str = "float16"
    notes: list[str] = field(default_factory=list)


# -- runs ------------------------------------------------------------------------------------------


@dataclass
class DataConfig:
    sets: list[str] = field(default_factory=list)  # shard sets under shards_dir, or paths
    shards_dir: str = "shards"
    targets: list[str] = field(default_factory=list)  # empty: all
    not_applicable: bool = True  # keep each group's N/A token; published single-set runs have none
    edges: str = "raw"  # raw or fisher_z: what the model sees of each correlation
    validation: float = 0.1  # share of subjects that choose the epoch
    resident_gb: float = 8.0  # a larger data set is streamed
    window: int | None = None  # blocks that are shuffled together; None: all
    reorder: bool = False  # allow data of another region order into a checkpoint of the same atlas
    scans: int | None = None  # cost only: how many, where no shards are named


@dataclass
class ModelConfig:
    preset: str = "tiny"  # the one dial: tiny, small, 147m ... 1.2b
    width: int | None = None  # the rest overrides the preset
    layers: int | None = None
    heads: int | None = None
    ffn: int | None = None
    dropout: float | None = None
    input_dropout: float = 0.0  # on the FC rows, ours
    init: str = "independent"  # or reference: all layers start identical, as published
    attention: str = "auto"  # auto, projected, flash, absorbed: exact formulations of one function
    mask_constant: bool = (
        False  # constant and missing regions (rows of zeros) take no part in attention, ours
    )
    edge_branch: bool = (
        False  # ours, not LCM: a linear map from the edges added to every layer's logits
    )
    edge_dropout: float = 0.5  # on that branch's input


@dataclass
class StageConfig:
    lr: float = 1e-4
    weight_decay: float = 0.0
    momentum: float = 0.9  # momentum stage
    beta1: float = 0.9  # adaptive stage
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass
class OptimConfig:
    momentum: StageConfig = field(default_factory=lambda: StageConfig(lr=1e-2))
    adaptive: StageConfig = field(default_factory=StageConfig)
    warmup_steps: int = 0
    schedule: str = "constant"  # cosine over all steps of the run, or wsd: constant, then a decay
    final_lr: float = 0.0  # cosine, wsd: the last factor
    decay_share: float = 0.2  # wsd: of the epochs, the last ones
    clip_norm: float | None = None
    edge_branch_lr: float = 30.0  # of the linear branch, times the stage's rate; ours
    state: str = "fp32"  # or bf16: the optimiser's averages in half the memory, see docs/log.md
    trainable: str = "all"  # or tokens: the token table, final norm and readout alone (finetuning in little memory)


@dataclass
class ObjectiveConfig:
    weights: dict[str, float] = field(
        default_factory=dict
    )  # per target; default 1, scalars scalar_weight
    scalar_weight: float = 1e-4
    scalar_scale: str = "raw"  # raw units (published), or standardised on the training scans
    label_smoothing: float = 0.0
    edge_branch_decay: float = 1e-2  # L2 on the linear branch, ours

    def weight(self, target: str, is_class: bool) -> float:
        """What a target's term counts in the loss."""
        return self.weights.get(target, 1.0 if is_class else self.scalar_weight)


@dataclass
class PhaseConfig:
    name: str = ""
    epochs: int = 1
    stage: str = "adaptive"  # momentum or adaptive: the optimiser's rule
    readout: str = "mean"  # mean, adaptive or last: which layers' logits the loss sees
    targets: list[str] = field(default_factory=list)  # active targets; empty: all
    sets: list[str] = field(
        default_factory=list
    )  # shard sets of this phase; empty: all of data.sets
    pseudo_labels: bool = (
        False  # give scans that lack a target the model's own prediction, at the phase's start
    )
    lr_scale: float = 1.0


@dataclass
class PseudoConfig:
    targets: list[str] = field(
        default_factory=list
    )  # which pretrained targets; empty: every pretrained one
    min_confidence: float = 0.0  # a class below it stays missing
    weight: float = 0.5  # of a pseudo-labelled term against a true one


@dataclass
class TrainerConfig:
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"  # auto (one process plain, several DDP), ddp, zero1, zero2, zero3
    offload: bool = False  # zero: optimiser state (and under zero3 weights) in the host's memory
    accumulate: int = 1  # micro-batches a step; batch norm takes its statistics from each of them
    precision: str = (
        "auto"  # auto: bf16-mixed on GPUs, and from width 512 on CPUs that have bf16; else 32-true
    )
    checkpoint_layers: bool = (
        False  # keep a layer's input alone, run it again in backward: less memory, more time
    )
    compile: bool = False  # torch.compile, a layer at a time; not under ZeRO-3
    global_batch: int = 128
    max_epochs: int | None = (
        None  # default: the phases' sum; the last phase is cut or stretched to it
    )
    max_steps: int | None = None
    checkpoint_steps: int | None = None  # also every so many steps; always at each epoch's end
    keep_checkpoints: int = 2  # the newest ones
    keep_every_steps: int | None = None  # those of every so many steps stay for ever
    hang_seconds: float = 300.0  # a rank that has not moved for so long, and for
    hang_factor: float = 20.0  # so many times the longest step so far, ends the run
    threads: int | None = None


@dataclass
class EvaluateConfig:
    set: str = ""  # default: the last of data.sets
    target: str = ""  # the headline; default: the set's first group
    targets: list[str] = field(default_factory=list)  # default: every active target
    protocol: str = "nested"
    folds: int = 5
    seed: int = 142857
    stratify: str = ""  # a class target or 'site', spread evenly over the folds; '': plain shuffled folds by subject
    repeats: int = 1  # models a fold with different seeds, their scores averaged
    bootstrap: int = 2000
    baselines: list[str] = field(default_factory=lambda: ["majority", "linear", "tangent"])
    checkpoint: str | None = None  # evaluate this model as it is, without training
    confounded: dict[str, str] = field(
        default_factory=dict
    )  # target -> why its number must not be believed


@dataclass
class Recipe:
    """One run."""

    name: str = ""
    title: str = ""
    seed: int = 0
    runs_dir: str = "runs"
    init_from: str | None = None  # a checkpoint or run folder to start from (finetuning)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    phases: list[PhaseConfig] = field(
        default_factory=lambda: [PhaseConfig(name="adaptive", epochs=10)]
    )
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


CHOICES: dict[str, tuple[str, ...]] = {
    "reader": ("abide", "mat", "table", "simulated"),
    "source.kind": ("series", "connectivity"),
    "connectivity.pad": ("safe", "drop", "reference"),
    "dtype": ("float16", "float32"),
    "data.edges": ("raw", "fisher_z"),
    "model.init": ("independent", "reference"),
    "model.attention": ("auto", "projected", "flash", "absorbed"),
    "optim.schedule": ("constant", "cosine", "wsd"),
    "optim.state": ("fp32", "bf16"),
    "optim.trainable": ("all", "tokens"),
    "objective.scalar_scale": ("raw", "standardised"),
    "phases.stage": ("momentum", "adaptive"),
    "phases.readout": ("mean", "adaptive", "last"),
    "trainer.strategy": ("auto", "ddp", "zero1", "zero2", "zero3"),
    "evaluate.protocol": ("nested",),
    "design": ("grid", "isoflop", "lr_transfer"),
    "fit.parameters": ("all", "body"),
    "fit.data": ("seen", "scans", "subjects"),
    "fit.epoch": ("chosen", "last"),
}
AT_LEAST = {
    "trainer.global_batch": 1,
    "trainer.accumulate": 1,
    "evaluate.repeats": 1,
    "evaluate.bootstrap": 1,
    "block": 1,
    "shard_scans": 1,
    "simulation.subjects": 1,
    "simulation.sites": 1,
    "simulation.seed": 0,
    "simulation.volumes": 2,
    "simulation.first_subject": 0,
}
SHARES = (
    "data.validation",
    "simulation.missing_labels",
    *(f"simulation.{e}_effect" for e in ("group", "sex", "age", "task", "site")),
)
SHORTHAND = {"model": "preset", "data": "sets"}

Schema = TypeVar("Schema")  # Recipe, ShardRecipe, sweep_config.SweepRecipe


def load(schema: type[Schema], path: str | Path | None, overrides: Sequence[str] = ()) -> Schema:
    """Compose a recipe: schema defaults < `defaults:` files < the file < overrides.

    Args:
        path: the recipe; None composes from the schema's defaults alone.
        overrides: `key=value` strings, values in YAML.
    Raises: InputError naming the file and key, with the nearest right key.
    """
    config = OmegaConf.structured(schema)
    folder = Path(path).parent if path else Path("recipes")
    if path is not None:
        for name, layer in _layers(Path(path)):
            config = _merge(config, layer, schema, name)
    for override in overrides:
        config = _merge(
            config, _parse_override(override, schema, folder), schema, f"override '{override}'"
        )
    if not config.name:
        config.name = Path(path).stem if path else ""
    try:
        recipe = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {_first_line(error)}") from error
    _check_choices(recipe, str(path) if path else "overrides")
    _check_numbers(recipe, str(path) if path else "overrides")
    return cast(Schema, recipe)


def dump(recipe: Any) -> str:
    """The resolved recipe as YAML, loadable again."""
    return OmegaConf.to_yaml(OmegaConf.structured(recipe))


def read_yaml(path: Path) -> DictConfig:
    """Raises: InputError where the file is missing or no mapping in YAML."""
    if not path.is_file():
        siblings = [p.stem for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise InputError(f"{path}: no such recipe{nearest(path.stem, siblings)}")
    try:
        data = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {_first_line(error)}") from error
    if not isinstance(data, DictConfig):
        raise InputError(f"{path}: expected keys and values at the top level")
    return data


def _layers(path: Path) -> list[tuple[str, DictConfig]]:
    """The file's defaults, each in its section, then the file itself."""
    own = read_yaml(path)
    result: list[tuple[str, DictConfig]] = []
    for name in own.pop("defaults", []):
        below = path.parent / f"{name}.yaml"
        section, slash, _ = str(name).rpartition("/")
        if slash:
            result.append((str(below), OmegaConf.create({section: read_yaml(below)})))
        else:
            result += _layers(below)
    return [*result, (str(path), own)]


def _parse_override(text: str, schema: type, folder: Path) -> DictConfig:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"override '{text}': expected key=value, for example trainer.max_steps=3")
    try:
        parsed = yaml.safe_load(value) if value else None
    except yaml.YAMLError as error:
        raise InputError(
            f"override '{text}': the value is not valid YAML: {_first_line(error)}"
        ) from error
    if schema is Recipe and key in SHORTHAND and not isinstance(parsed, dict):
        parsed = [value] if key == "data" and not isinstance(parsed, list) else parsed
        key, parsed = f"{key}.{SHORTHAND[key]}", parsed if key == "data" else value
    elif schema is Recipe and key == "optim" and isinstance(parsed, str):
        return OmegaConf.create({"optim": read_yaml(folder / "optim" / f"{value}.yaml")})
    config = OmegaConf.create({})
    OmegaConf.update(config, key, parsed)
    return config


def _merge(config: DictConfig, layer: DictConfig, schema: type, where: str) -> DictConfig:
    _check_keys(OmegaConf.to_container(layer), schema, "", where)
    try:
        return cast(DictConfig, OmegaConf.merge(config, layer))
    except OmegaConfBaseException as error:
        raise InputError(f"{where}: {_first_line(error)}") from error


def _check_keys(data: Any, schema: type, prefix: str, where: str) -> None:
    """Unknown keys are found before OmegaConf does, to suggest the nearest right one."""
    if not isinstance(data, dict):
        return
    known = {f.name: get_type_hints(schema)[f.name] for f in fields(schema)}
    for key, value in data.items():
        if key not in known:
            raise InputError(
                f"{where}: unknown key '{prefix}{key}'{nearest(str(key), known)} (known: {', '.join(known)})"
            )
        inner = known[key]
        if is_dataclass(inner) and isinstance(inner, type):
            _check_keys(value, inner, f"{prefix}{key}.", where)
        elif isinstance(value, list) and get_args(inner) and is_dataclass(get_args(inner)[0]):
            for item in value:
                _check_keys(item, cast(type, get_args(inner)[0]), f"{prefix}{key}.", where)


def _check_choices(recipe: Any, where: str) -> None:
    for key, allowed in CHOICES.items():
        section, _, name = key.rpartition(".")
        owner = getattr(recipe, section, None) if section else recipe
        for item in owner if isinstance(owner, list) else [owner]:
            value = getattr(item, name, None)
            if value is not None and value not in allowed:
                raise InputError(
                    f"{where}: {key}={value}{nearest(value, allowed)} (one of {', '.join(allowed)})"
                )


def _check_numbers(recipe: Any, where: str) -> None:
    """Of the keys that this kind of recipe has."""
    for key in (*AT_LEAST, *SHARES):
        section, _, name = key.rpartition(".")
        value = getattr(getattr(recipe, section, None) if section else recipe, name, None)
        if value is None:
            continue
        if key in AT_LEAST and value < AT_LEAST[key]:
            raise InputError(
                f"{where}: {key}={value}: expected a whole number from {AT_LEAST[key]} on"
            )
        if key in SHARES and not 0 <= value < 1:
            raise InputError(f"{where}: {key}={value}: expected a share, 0 or more and below 1")


def _first_line(error: Exception) -> str:
    return " ".join([line.strip() for line in str(error).splitlines() if line.strip()][:2])


def expand(path: str) -> Path:
    """A path from a recipe, with ~ and environment variables resolved."""
    return Path(os.path.expandvars(path)).expanduser()
