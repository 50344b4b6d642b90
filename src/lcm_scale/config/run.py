"""The recipe of a run: data, model, optimiser, phases, machine and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

from lcm_scale.config.fields import RUN_NAME, choice, free, named, number, share, some_of, weights

SETS = "opening the data names the sets that are there"
TARGETS = "opening the data names the targets that are there"
FLAG = "yes or no"
WHEN_READ = "loading it says where nothing is there"

EDGES = ("raw", "fisher_z")
PRESETS = ("tiny", "small", "147m", "294m", "441m", "588m", "735m", "882m", "1b", "1.2b")
INITS = ("independent", "reference")
FORMULATIONS = ("projected", "flash", "absorbed")
STAGES = ("momentum", "adaptive")
READOUTS = ("mean", "adaptive", "last")
STRATEGIES = ("auto", "ddp", "zero1", "zero2", "zero3")
PRECISIONS = ("auto", "32-true", "bf16-mixed")
PROTOCOLS = ("nested",)
BASELINES = ("majority", "linear", "tangent")
NAME_IN_WORDS = (
    "a name of letters, digits, spaces and -_.@+=, parts of it divided by '/', that stays within "
    "runs_dir"
)


@dataclass
class DataConfig:
    # Shard sets under shards_dir, or paths.
    sets: list[str] = free([], SETS)
    shards_dir: str = free("shards", SETS)
    # Empty: all.
    targets: list[str] = free([], TARGETS)
    # Keep each group's N/A token; published single-set runs have none.
    not_applicable: bool = free(True, FLAG)
    # What the model sees of each correlation.
    edges: str = choice("raw", EDGES)
    # Share of the people that choose the epoch.
    validation: float = share(0.1)
    # A larger data set is streamed.
    resident_gb: float = number(8.0, at_least=0)
    # Blocks that are shuffled together; None: all.
    window: int | None = number(None, at_least=1)
    # Allow data of another region order into a checkpoint of the same atlas.
    reorder: bool = free(False, FLAG)
    # cost only: how many, where no shards are named.
    scans: int | None = number(None, at_least=1)


@dataclass
class ModelConfig:
    # The one dial; the rest overrides it.
    preset: str = choice("tiny", PRESETS)
    width: int | None = number(None, at_least=1)
    layers: int | None = number(None, at_least=1)
    heads: int | None = number(None, at_least=1)
    ffn: int | None = number(None, at_least=1)
    dropout: float | None = share(None)
    # On the FC rows, ours.
    input_dropout: float = share(0.0)
    # reference: all layers start identical, as published.
    init: str = choice("independent", INITS)
    # Exact formulations of one function.
    attention: str = choice("auto", ("auto", *FORMULATIONS))
    # Constant and missing regions (rows of zeros) take no part in attention, ours.
    mask_constant: bool = free(False, FLAG)
    # Ours, not LCM: a linear map from the edges added to every layer's logits.
    edge_branch: bool = free(False, FLAG)
    # On that branch's input.
    edge_dropout: float = share(0.5)


@dataclass
class StageConfig:
    lr: float = number(1e-4, at_least=0)
    weight_decay: float = number(0.0, at_least=0)
    # Momentum stage.
    momentum: float = share(0.9)
    # Adaptive stage.
    beta1: float = share(0.9)
    beta2: float = share(0.999)
    eps: float = number(1e-8, above=0)


@dataclass
class OptimConfig:
    momentum: StageConfig = field(default_factory=lambda: StageConfig(lr=1e-2))
    adaptive: StageConfig = field(default_factory=StageConfig)
    warmup_steps: int = number(0, at_least=0)
    # cosine over all steps of the run, or wsd: constant, then a decay.
    schedule: str = choice("constant", ("constant", "cosine", "wsd"))
    # cosine, wsd: the last factor.
    final_lr: float = number(0.0, at_least=0, at_most=1)
    # wsd: of the epochs, the last ones.
    decay_share: float = number(0.2, above=0, at_most=1)
    clip_norm: float | None = number(None, above=0)
    # Of the linear branch, times the stage's rate; ours.
    edge_branch_lr: float = number(30.0, at_least=0)
    # bf16: the optimiser's averages in half the memory, see docs/log.md.
    state: str = choice("fp32", ("fp32", "bf16"))
    # tokens: the token table, final norm and readout alone (finetuning in little memory).
    trainable: str = choice("all", ("all", "tokens"))


@dataclass
class ObjectiveConfig:
    # Per target; default 1, scalars scalar_weight.
    weights: dict[str, float] = weights()
    scalar_weight: float = number(1e-4, at_least=0)
    # raw units (published), or standardised on the training scans.
    scalar_scale: str = choice("raw", ("raw", "standardised"))
    label_smoothing: float = share(0.0)
    # L2 on the linear branch, ours.
    edge_branch_decay: float = number(1e-2, at_least=0)

    def weight(self, target: str, is_class: bool) -> float:
        """What a target's term counts in the loss."""
        return self.weights.get(target, 1.0 if is_class else self.scalar_weight)


@dataclass
class PhaseConfig:
    name: str = free("", "for people to read")
    epochs: int = number(1, at_least=1)
    # The optimiser's rule.
    stage: str = choice("adaptive", STAGES)
    # Which layers' logits the loss sees.
    readout: str = choice("mean", READOUTS)
    # Active targets; empty: all.
    targets: list[str] = free([], TARGETS)
    # Shard sets of this phase; empty: all of data.sets.
    sets: list[str] = free([], SETS)
    # Give scans that lack a target the model's own prediction, at the phase's start.
    pseudo_labels: bool = free(False, FLAG)
    lr_scale: float = number(1.0, at_least=0)


@dataclass
class PseudoConfig:
    # Which pretrained targets; empty: every pretrained one.
    targets: list[str] = free([], TARGETS)
    # A class below it stays missing.
    min_confidence: float = number(0.0, at_least=0, at_most=1)
    # Of a pseudo-labelled term against a true one.
    weight: float = number(0.5, at_least=0)


@dataclass
class TrainerConfig:
    """What `may_differ` may change when a run goes on, at another world size for example."""

    accelerator: str = choice("auto", ("auto", "cpu", "gpu"), may_differ=True)
    devices: int = number(1, at_least=1, may_differ=True)
    nodes: int = number(1, at_least=1, may_differ=True)
    # auto: one process plain, several DDP.
    strategy: str = choice("auto", STRATEGIES, may_differ=True)
    # zero: optimiser state (and under zero3 weights) in the host's memory.
    offload: bool = free(False, FLAG, may_differ=True)
    # Micro-batches a step; batch norm takes its statistics from each of them.
    accumulate: int = number(1, at_least=1, may_differ=True)
    # auto: bf16-mixed on GPUs, and from width 512 on CPUs that have bf16; else 32-true.
    precision: str = choice("auto", PRECISIONS)
    # Keep a layer's input alone, run it again in backward: less memory, more time.
    checkpoint_layers: bool = free(False, FLAG, may_differ=True)
    # torch.compile, a layer at a time; not under ZeRO-3.
    compile: bool = free(False, FLAG, may_differ=True)
    global_batch: int = number(128, at_least=1)
    # Default: the phases' sum; the last phase is cut or stretched to it.
    max_epochs: int | None = number(None, at_least=1, may_differ=True)
    max_steps: int | None = number(None, at_least=1, may_differ=True)
    # Also every so many steps; always at each epoch's end.
    checkpoint_steps: int | None = number(None, at_least=1)
    # The newest ones.
    keep_checkpoints: int = number(2, at_least=1, may_differ=True)
    # Those of every so many steps stay for ever.
    keep_every_steps: int | None = number(None, at_least=1, may_differ=True)
    # A rank that has not moved for so long, and for
    hang_seconds: float = number(300.0, above=0, may_differ=True)
    # so many times the longest step so far, ends the run.
    hang_factor: float = number(20.0, at_least=1, may_differ=True)
    threads: int | None = number(None, at_least=1, may_differ=True)


@dataclass
class EvaluateConfig:
    # Default: the last of data.sets.
    set: str = free("", SETS)
    # The headline; default: the set's first group.
    target: str = free("", TARGETS)
    # Default: every active target.
    targets: list[str] = free([], TARGETS)
    protocol: str = choice("nested", PROTOCOLS)
    folds: int = number(5, at_least=2)
    seed: int = number(142857, at_least=0, below=2**32)
    # A class target or 'site', spread evenly over the folds; '': plain shuffled folds by subject.
    stratify: str = free("", TARGETS)
    # Models a fold with different seeds, their scores averaged.
    repeats: int = number(1, at_least=1)
    bootstrap: int = number(2000, at_least=1)
    baselines: list[str] = some_of(BASELINES, BASELINES)
    # Evaluate this model as it is, without training.
    checkpoint: str | None = free(None, WHEN_READ)
    # Target -> why its number must not be believed.
    confounded: dict[str, str] = free({}, TARGETS)


@dataclass
class Recipe:
    """One run."""

    name: str = named("", RUN_NAME, NAME_IN_WORDS)
    title: str = free("", "for people to read")
    seed: int = number(0, at_least=0, below=2**32)
    runs_dir: str = free("runs", "made where it is not there")
    # A checkpoint or run folder to start from (finetuning).
    init_from: str | None = free(None, WHEN_READ)
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
