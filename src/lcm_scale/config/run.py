"""The recipe of a run: data, model, optimiser, objective, phases, hardware and evaluation.

Values that follow from others are computed where they are used, never repeated here. Loaded by
`config.load(Recipe, path, overrides)`, as every recipe is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lcm_scale.config.fields import (
    FILLED,
    LABEL_COUNT,
    RUN_NAME,
    at_least,
    between,
    choice,
    choices_of,
    free,
    keys_that_may_differ,
    positive,
    sections,
    share,
    some_of,
    text,
    texts,
)

LARGEST_SEED = 2**32 - 1  # that scikit-learn and NumPy take
ALL_LABELS = "all"
LORA_TARGETS = ("attention", "ffn")
LOGGERS = ("csv", "tensorboard", "wandb", "mlflow")
METRICS = (
    *("auroc", "accuracy", "balanced_accuracy", "weighted_f1", "auprc", "sensitivity_at_90"),
    *("brier", "calibration_error"),
    *("mae", "r2", "pearson_r"),
)
BASELINES = ("majority", "linear", "tangent")
SCRATCH = "scratch"  # the same model without init_from, as a baseline of an evaluation
CONFOUNDS = ("site", "motion", "length", "age", "sex")


@dataclass
class DataConfig:
    sets: list[str] = texts(unique=False)  # shard sets under shards_dir, or paths
    # where the sets lie; fingerprints say whether they are still the same
    shards_dir: str = text(FILLED, "shards", may_differ=True)
    targets: list[str] = texts()  # empty: all
    not_applicable: bool = True  # keep each group's N/A token; published single-set runs have none
    edges: str = choice("raw", "fisher_z")  # what the model sees of each correlation
    # mix sets, or a checkpoint and sets, of different connectivity.kind; the report says so
    mix_kinds: bool = False
    validation: float = share(0.1)  # of the subjects, who choose the epoch
    resident_gb: float = at_least(0, 8.0)  # a larger data set is streamed
    window: int | None = at_least(1, None)  # blocks that are shuffled together; None: all
    reorder: bool = False  # allow data of another region order into a checkpoint of the same atlas
    scans: int | None = at_least(1, None)  # cost only: how many, where no shards are named


@dataclass
class ModelConfig:
    # the one dial
    preset: str = choice(
        "tiny", "small", "147m", "294m", "441m", "588m", "735m", "882m", "1b", "1.2b"
    )
    width: int | None = at_least(1, None)  # the rest overrides the preset
    layers: int | None = at_least(1, None)  # of the decoder
    heads: int | None = at_least(1, None)  # of its attention
    ffn: int | None = at_least(1, None)  # width of the feed-forward part
    dropout: float | None = share(None)  # in attention, feed-forward part and residual sums
    input_dropout: float = share(0.0)  # on the FC rows, ours
    init: str = choice(
        "independent", "reference"
    )  # reference: layers start identical, as published
    # exact formulations of one function
    attention: str = choice("auto", "projected", "flash", "absorbed")
    # constant and missing regions (rows of zeros) take no part in attention, ours
    mask_constant: bool = False
    # ours, not LCM: a linear map from the edges added to every layer's logits
    edge_branch: bool = False
    edge_dropout: float = share(0.5)  # on that branch's input
    # ours: a closed-form answer by whom a scan resembles, fitted when training is done, beside the
    # decoder's; rbf: keeps people's vectors, personal data
    people_memory: str = choice("none", "linear", "rbf")
    # what people memory is told of a scan beside its matrix: site, columns of context, targets
    context: list[str] = texts()
    # where init_from has people memory: fit what its answers leave over, or all anew
    prior: str = choice("pretrained", "none")


@dataclass
class StageConfig:
    lr: float = at_least(0, 1e-4, after_divergence=True)  # learning rate
    weight_decay: float = at_least(0, 0.0)  # of the weights
    momentum: float = share(0.9)  # momentum stage
    beta1: float = share(0.9)  # adaptive stage
    beta2: float = share(0.999)  # adaptive stage
    eps: float = positive(1e-8)  # adaptive stage


@dataclass
class LoRAConfig:
    rank: int = at_least(1, 8)  # of each adapter
    alpha: float = positive(16.0)  # an adapter's product counts alpha / rank
    # what has one: every product of attention and of the feed-forward part
    targets: list[str] = some_of(LORA_TARGETS, LORA_TARGETS)


Trains = str | LoRAConfig


@dataclass
class OptimConfig:
    momentum: StageConfig = field(default_factory=lambda: StageConfig(lr=1e-2))
    adaptive: StageConfig = field(default_factory=StageConfig)
    warmup_steps: int = at_least(0, 0)  # until the full rate, in a straight line
    # cosine over all steps of the run, or wsd: constant, then a decay
    schedule: str = choice("constant", "cosine", "wsd")
    final_lr: float = between(0, 1, 0.0)  # cosine, wsd: the last factor
    decay_share: float = between(0, 1, 0.2, above=True)  # wsd: of the epochs, the last ones
    clip_norm: float | None = positive(None, after_divergence=True)  # largest norm of the gradient
    # of the linear branch, times the stage's rate; ours
    edge_branch_lr: float = at_least(0, 30.0, after_divergence=True)
    # bf16: the optimiser's averages in half the memory, see docs/log.md
    state: str = choice("fp32", "bf16")
    # tokens: the token table, final norm and readout alone (finetuning in little memory); lora:
    # these, and low-rank adapters on the weights of init_from, which stand still
    trainable: str = choice("all", "tokens", "lora")
    lora: LoRAConfig = field(default_factory=LoRAConfig)

    @property
    def trains(self) -> Trains:
        """`trainable`, and where that is `lora`, what adapters there are."""
        return self.lora if self.trainable == "lora" else self.trainable


@dataclass
class ObjectiveConfig:
    weights: dict[str, float] = at_least(0, {})  # per target; default 1, scalars scalar_weight
    scalar_weight: float = at_least(0, 1e-4)  # of a number's term beside a class's
    # raw units (published), or standardised on the training scans
    scalar_scale: str = choice("raw", "standardised")
    label_smoothing: float = share(0.0)  # of classes
    edge_branch_decay: float = at_least(0, 1e-2)  # L2 on the linear branch, ours

    def weight(self, target: str, is_class: bool) -> float:
        """What a target's term counts in the loss."""
        return self.weights.get(target, 1.0 if is_class else self.scalar_weight)


@dataclass
class PhaseConfig:
    name: str = free("")  # as logs call it
    epochs: int = at_least(1, 1)  # passes over its scans
    stage: str = choice("adaptive", "momentum")  # the optimiser's rule
    readout: str = choice("mean", "adaptive", "last")  # which layers' logits the loss sees
    targets: list[str] = texts()  # active targets; empty: all
    sets: list[str] = texts()  # shard sets of this phase; empty: all of data.sets
    # give scans that lack a target the model's own prediction, at the phase's start
    pseudo_labels: bool = False
    lr_scale: float = at_least(0, 1.0)  # times the stage's rate


@dataclass
class PseudoConfig:
    targets: list[str] = texts()  # which pretrained targets; empty: every pretrained one
    min_confidence: float = between(0, 1, 0.0)  # a class below it stays missing
    # fitted: per target the smallest confidence from which on the model is clearly better about
    # validation people than their most frequent class; none passes: no pseudo-labels
    threshold: str = choice("given", "fitted")
    weight: float = at_least(0, 0.5)  # of a pseudo-labelled term against a true one


@dataclass
class TrainerConfig:
    """How a run is carried out. A run may go on at another world size or spread otherwise, and for
    longer: such keys may differ from what it was started with."""

    # auto: a GPU where there is one
    accelerator: str = choice("auto", "cpu", "gpu", may_differ=True)
    devices: int = at_least(1, 1, may_differ=True)  # GPUs, or processes, of a node
    nodes: int = at_least(1, 1, may_differ=True)  # machines
    # auto: with the processes at hand the quickest way that fits, by `lcm-scale cost` (one process
    # plain, several DDP, ZeRO, checkpoint_layers, offload), printed with its reason
    strategy: str = choice("auto", "ddp", "zero1", "zero2", "zero3", may_differ=True)
    # zero: optimiser state (and under zero3 weights) in the host's memory
    offload: bool = free(False, may_differ=True)
    # micro-batches a step; batch norm takes its statistics from each of them
    accumulate: int = at_least(1, 1, may_differ=True)
    # auto: bf16-mixed on GPUs, and from width 512 on CPUs that have bf16; else 32-true
    precision: str = choice("auto", "bf16-mixed", "32-true", after_divergence=True)
    # keep a layer's input alone, run it again in backward: less memory, more time; strategy=auto
    # turns it on where nothing else fits as quickly
    checkpoint_layers: bool = free(False, may_differ=True)
    # torch.compile, a layer at a time; not under ZeRO-3
    compile: bool = free(False, may_differ=True)
    # launch a step as one CUDA graph; on one GPU. Not measured yet
    cuda_graph: bool = free(False, may_differ=True)
    global_batch: int = at_least(1, 128)  # scans a step, of all processes together
    # default: the phases' sum; the last phase is cut or stretched to it
    max_epochs: int | None = at_least(1, None, may_differ=True)
    max_steps: int | None = at_least(1, None, may_differ=True)  # no more optimiser steps than these
    # also every so many steps; always at each epoch's end
    checkpoint_steps: int | None = at_least(1, None)
    keep_checkpoints: int = at_least(1, 2, may_differ=True)  # the newest ones
    # those of every so many steps stay for ever
    keep_every_steps: int | None = at_least(1, None, may_differ=True)
    # a rank that has not moved for so long, and for
    hang_seconds: float = positive(300.0, may_differ=True)
    # so many times the longest step so far, ends the run
    hang_factor: float = at_least(1, 20.0, may_differ=True)
    # of the CPU, a process; None: OMP_NUM_THREADS, else one below width 256 and all that it may
    # use from there on
    threads: int | None = at_least(1, None, may_differ=True)
    # who else gets the log's numbers: csv is metrics.csv, which is always written
    loggers: list[str] = some_of(LOGGERS, LOGGERS[:1], may_differ=True)


@dataclass
class EvaluateConfig:
    set: str = free("")  # default: the last of data.sets
    target: str = free("")  # the headline; default: the set's first group
    targets: list[str] = texts()  # default: every active target
    # how people are held out; external: train on the other sets of data.sets, test on `set`;
    # paper: as published, optimistic
    protocol: str = choice(
        *("nested", "repeated", "leave-site-out", "leave-set-out", "external", "paper"),
        plugins="protocols",
    )
    folds: int = at_least(2, 5)  # of nested and repeated
    seed: int = between(0, LARGEST_SEED, 142857)  # of the folds
    # of repeated: a division into folds each; empty: the five seeds from `seed` on
    fold_seeds: list[int] = between(0, LARGEST_SEED, [])
    # a class target or 'site', spread evenly over the folds; '': plain shuffled folds by subject
    stratify: str = free("")
    # a column of context, such as family: who shares its value stands on one side of every split
    group: str = free("")
    # what a prediction is scored for: each window by itself, or the mean of a scan's or person's
    unit: str = choice("window", "scan", "person")
    # the metric that says who wins; usual: AUROC for two classes, accuracy for more, the mean
    # absolute error of a number
    primary: str = choice("usual", *METRICS, may_differ=True, plugins="metrics")
    # metrics of other packages, beside the usual ones
    metrics: list[str] = some_of((), (), may_differ=True, plugins="metrics")
    # take the sites' effects out of the matrices, fitted on each fold's training scans
    harmonise: str = choice("none", "site-centre", "combat")
    repeats: int = at_least(1, 1)  # models a fold with different seeds, their scores averaged
    # the headline with so many labelled people a fold, a curve: [10, 25, 50, all]
    label_counts: list[str] = text(LABEL_COUNT, [], may_differ=True)
    label_draws: int = at_least(2, 5, may_differ=True)  # draws of who they are, at each count
    # afterwards train one model on everybody, RUN/model, which `predict` asks; one fold's time more
    final: bool = free(False, may_differ=True)
    # what stands beside the folds may be asked anew; the folds' models stay as they are
    bootstrap: int = at_least(1, 2000, may_differ=True)
    # what stands beside the model on the same folds
    baselines: list[str] = some_of(
        (*BASELINES, SCRATCH), BASELINES, may_differ=True, plugins="baselines"
    )
    # what is asked how well it tells each label without any matrix; empty: nothing is asked
    confounds: list[str] = some_of(CONFOUNDS, CONFOUNDS, may_differ=True)
    # the model's class probabilities, by a map fitted in each fold on who chooses its epoch
    calibration: str = choice("none", "temperature", "isotonic", may_differ=True)
    # sets and intervals that miss at most this share of people, from who chooses the epoch; 0: none
    conformal: float = share(0.0, may_differ=True)
    # how often the headline's labels are exchanged between people, for a p; 0: not asked
    permutations: int = at_least(0, 0, may_differ=True)
    # between whom: people of one fold, or of one fold and site
    permute_within: str = choice("fold", "site", may_differ=True)
    # evaluate this model as it is, without training: an external test, whatever the protocol
    checkpoint: str | None = text(FILLED, None)
    confounded: dict[str, str] = text(
        FILLED, {}, may_differ=True
    )  # target -> why its number must not be believed


@dataclass
class Recipe:
    """One run."""

    # name and runs_dir say where the run lies: a folder may be moved and renamed
    name: str = text(RUN_NAME, "", may_differ=True)
    title: str = free("", may_differ=True)  # heading of the report; default: the name
    seed: int = between(0, LARGEST_SEED, 0)  # of weights, batches and who validates
    runs_dir: str = text(FILLED, "runs", may_differ=True)  # where runs are written
    # a checkpoint or run folder to start from (finetuning)
    init_from: str | None = text(FILLED, None)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    phases: list[PhaseConfig] = sections(PhaseConfig(name="adaptive", epochs=10), least=1)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


# The choices that other rooms handle a member at a time: one list each, beside its field.
EDGES = choices_of(DataConfig, "edges")
INITS = choices_of(ModelConfig, "init")
FORMULATIONS = tuple(word for word in choices_of(ModelConfig, "attention") if word != "auto")
READOUTS = choices_of(PhaseConfig, "readout")
HARMONISE = choices_of(EvaluateConfig, "harmonise")


def may_differ(after_divergence: bool = False) -> frozenset[str]:
    """Dotted keys of a run recipe that a run may go on with another value of.

    Args: after_divergence: the run's loss is no number any more, so rates may change too.
    """
    return keys_that_may_differ(Recipe, after_divergence)
