"""What a run costs, from its recipe alone: parameters, FLOPs a step and memory a device, before
anything is trained.

Parameters and FLOPs are exact counts (model/flops.py). Memory is weights, gradients and optimiser
state, which are exact, and activations, which follow from the tensors that the layers keep for
backward; allocator and library overhead (about 1 GB on a GPU) come on top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lcm_scale.config import LoRAConfig, Recipe, Trains
from lcm_scale.config.run import FORMULATIONS
from lcm_scale.data.sets import open_sets
from lcm_scale.errors import InputError
from lcm_scale.hardware.cards import Card
from lcm_scale.hardware.precision import working_dtype
from lcm_scale.model.batchnorm import from_inputs
from lcm_scale.model.flops import (
    adapted_parameters,
    adapter_parameters,
    adapts,
    formulation_of,
    forward_flops,
    parameter_count,
    trained_parameters,
    training_flops,
)
from lcm_scale.model.presets import LCMConfig, resolve

PRECISIONS = ("32-true", "bf16-mixed")
# Without data: four label categories, two of sex, age, on AAL-116, as the published sizes are
# counted.
DEFAULT_TARGET_TOKENS = (4, 2, 1)
DEFAULT_REGIONS = 116


@dataclass(frozen=True)
class Job:
    """What is to be trained, as far as its cost depends on it; where it runs is no part of it.

    Attributes:
        batch: scans an optimiser step, over all ranks and micro-batches.
        steps: optimiser steps of the whole run.
        accumulate: micro-batches a step that the recipe asks for.
        trainable, state: `optim.trains` and `optim.state`.
        precision: `trainer.precision`; auto: what the card trains in.
    """

    model: LCMConfig
    batch: int
    steps: int
    accumulate: int = 1
    trainable: Trains = "all"
    state: str = "fp32"
    precision: str = "auto"

    def precision_on(self, card: Card) -> str:
        return card.precision_for(self.model.width) if self.precision == "auto" else self.precision


@dataclass(frozen=True)
class Memory:
    """Bytes on one device while training.

    Attributes: workspace: what the backward of one layer needs for a moment.
    """

    precision: str
    weights: int
    gradients: int
    optimiser: int
    activations: int
    workspace: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.activations + self.workspace


@dataclass(frozen=True)
class Cost:
    """The cost of a recipe.

    Attributes:
        sets: names of the shard sets whose tokens and regions were counted; empty: the published 7
            tokens.
        trained: parameters with a gradient and optimiser state; adapters are none of `parameters`.
        formulation: of the cross-attention, as the run would take it.
        global_batch: scans an optimiser step.
        device_batch: scans that one device holds at a time: of one micro-batch.
        scan_flops: formulation -> forward FLOPs of one scan.
        step_flops: formulation -> forward and backward FLOPs of one step, over all devices.
        scans, steps: of an epoch's data and of the whole run; None where neither data nor
            `data.scans` is named.
        memory: one row a precision.
    """

    model: LCMConfig
    sets: tuple[str, ...]
    parameters: int
    trained: int
    formulation: str
    global_batch: int
    device_batch: int
    scan_flops: Mapping[str, int]
    step_flops: Mapping[str, int]
    scans: int | None
    steps: int | None
    memory: tuple[Memory, ...]


def cost(recipe: Recipe) -> Cost:
    """Count a recipe. All targets are taken as active: phases that leave some out cost less.

    Raises: InputError for an unknown preset or shard set.
    """
    target_tokens: tuple[int, ...] = DEFAULT_TARGET_TOKENS
    regions, scans = DEFAULT_REGIONS, recipe.data.scans
    names: tuple[str, ...] = ()
    if recipe.data.sets:
        sets = open_sets(recipe.data)
        target_tokens = tuple(target.n_tokens for target in sets.vocabulary.targets)
        regions, scans, names = sets.atlas.n_regions, sets.n_scans, sets.names
    model = resolve(recipe.model, regions, target_tokens)
    batch = recipe.trainer.global_batch
    trainer = recipe.trainer
    device_batch = math.ceil(batch / (trainer.devices * trainer.nodes * trainer.accumulate))
    return Cost(
        model=model,
        sets=names,
        parameters=parameter_count(model),
        trained=trained_parameters(model, recipe.optim.trains),
        formulation=formulation_of(model, model.n_tokens),
        global_batch=batch,
        device_batch=device_batch,
        scan_flops={f: forward_flops(model, f) for f in FORMULATIONS},
        step_flops={
            f: batch * training_flops(model, f, trainable=recipe.optim.trains) for f in FORMULATIONS
        },
        scans=scans,
        steps=None if scans is None else _steps(recipe, scans),
        memory=tuple(
            memory(
                model,
                precision,
                device_batch,
                trainer.checkpoint_layers,
                recipe.optim.trains,
                recipe.optim.state,
            )
            for precision in PRECISIONS
        ),
    )


def job_of(recipe: Recipe, counted: Cost) -> Job:
    """What a planner has to know of a recipe that was counted.

    Raises: InputError where nothing says how many scans there are.
    """
    if counted.steps is None:
        raise InputError(
            "a plan needs data: name a shard set (data=abide) or a number of scans "
            "(data.scans=10000)"
        )
    return job_for(recipe, counted.model, counted.steps)


def job_for(recipe: Recipe, model: LCMConfig, steps: int = 1) -> Job:
    """What a planner has to know of a recipe whose model is known. How long the run is changes
    neither what fits nor which way is the quickest."""
    return Job(
        model=model,
        batch=recipe.trainer.global_batch,
        steps=steps,
        accumulate=recipe.trainer.accumulate,
        trainable=recipe.optim.trains,
        state=recipe.optim.state,
        precision=recipe.trainer.precision,
    )


def memory(
    config: LCMConfig,
    precision: str,
    device_batch: int,
    checkpointing: bool = False,
    trainable: Trains = "all",
    state: str = "fp32",
    device: str = "cpu",
) -> Memory:
    """Bytes on one device that holds the whole model.

    Args:
        precision: ``32-true``, or ``bf16-mixed`` or ``16-mixed`` (fp32 weights, copies of half
            their size while a step lasts).
        trainable: ``optim.trains``; what does not train has neither gradient nor state.
        state: ``optim.state``, fp32 or bf16.
        device: torch's name of the kind, by which the cross-attention is chosen.
    """
    parameters = parameter_count(config)
    trained = trained_parameters(config, trainable)
    # Autocast casts what a layer multiplies with: its weights, not its norms and biases.
    multiplied = config.layers * (8 * config.width**2 + 2 * config.width * config.ffn)
    size = working_dtype(precision).itemsize
    copies = size * multiplied if size < 4 else 0
    adapters = 0
    if isinstance(trainable, LoRAConfig):
        adapters = adapter_parameters(config, trainable)
        if not copies:  # the sums that a step is computed with
            copies = 4 * adapted_parameters(config, trainable)
            copies //= config.layers if checkpointing else 1
    return Memory(
        precision=precision,
        weights=4 * (parameters + adapters) + copies,
        gradients=4 * trained,
        # exp_avg and exp_avg_sq, in both stages
        optimiser=2 * (2 if state == "bf16" else 4) * trained,
        activations=device_batch
        * activation_bytes(config, precision, checkpointing, trainable, device),
        workspace=device_batch * workspace_bytes(config, precision, trainable, device),
    )


def activation_bytes(
    config: LCMConfig,
    precision: str,
    checkpointing: bool = False,
    trainable: Trains = "all",
    device: str = "cpu",
) -> int:
    """Bytes that one scan's forward pass keeps for backward, all tokens active.

    The factors count the tensors that autograd saves (a test measures them): inputs of products,
    outputs of softmax and activations, what norms normalise; dropout masks, a byte each; a few
    numbers a token.
    Args: checkpointing: a layer keeps its input alone and runs again in backward.   trainable:
        ``optim.trains``.   device: by which the cross-attention is chosen.
    """
    M, R, D, H, F = config.n_tokens, config.n_regions, config.width, config.heads, config.ffn
    size = working_dtype(precision).itemsize
    formulation = _formulation(config, precision, device)
    layer, first = (
        _layer_bytes(config, size, formulation),
        size * (5 * M * D + 2 * H * M * M - M * H),
    )  # whose state is zero
    kept = 1 if from_inputs(R, D, device, working_dtype(precision)) else 2
    embedding = size * (R * R + kept * R * D) + 4 * R
    if trainable != "all":  # inputs of products whose weights stand still are not kept
        absorbs = formulation == "absorbed"
        embedding = size * R * D if absorbs or adapts(trainable, "attention") else 0
        if not adapts(trainable, "ffn"):
            layer -= size * (M * D + M * F)
        if not adapts(trainable, "attention"):
            layer -= size * 4 * M * D
            first = size * (3 * M * D + 2 * H * M * M)
            if formulation == "projected":  # nor is what gradients of keys and values would need
                layer -= size * (M * D + H * M * R)
    if checkpointing:
        return embedding + config.layers * (size * 2 * M * D + 8 * M) + layer
    return embedding + config.layers * layer - first


def workspace_bytes(
    config: LCMConfig, precision: str, trainable: Trains = "all", device: str = "cpu"
) -> int:
    """Bytes a scan that one layer's backward needs for a moment."""
    M, R, D, H = config.n_tokens, config.n_regions, config.width, config.heads
    size = working_dtype(precision).itemsize
    absorbed = _formulation(config, precision, device) == "absorbed"
    if trainable != "all" and not adapts(trainable, "attention"):
        # the way to the queries; what embedding the rows takes
        return size * ((3 * H * M * D if absorbed else 0) + 4 * R * D + 4 * M * D)
    # absorbed queries, attended rows and their gradients; or keys and values with their gradients;
    # the memory's gradient
    attended = 6 * H * M * D if absorbed else 4 * R * D
    return size * (attended + R * D + 4 * M * D)


def _formulation(config: LCMConfig, precision: str, device: str) -> str:
    return formulation_of(config, config.n_tokens, device=device, dtype=working_dtype(precision))


def _layer_bytes(config: LCMConfig, size: int, formulation: str) -> int:
    M, R, D, H, F = config.n_tokens, config.n_regions, config.width, config.heads, config.ffn
    numbers = (
        14 * M * D
        + 2 * M * F
        + 2 * H * M * M
        + {"absorbed": 1, "projected": 2, "flash": 0}[formulation] * H * M * R
    )
    if formulation != "absorbed":
        numbers += 2 * R * D  # keys and values
    masks = 3 * M * D + H * M * R + M * F + H * M * M if config.dropout else 0
    return size * numbers + masks + 4 * 8 * M


def _steps(recipe: Recipe, scans: int) -> int:
    """Optimiser steps of the run, every phase over all scans."""
    epochs = recipe.trainer.max_epochs or sum(phase.epochs for phase in recipe.phases)
    steps = epochs * math.ceil(scans / recipe.trainer.global_batch)
    return min(steps, recipe.trainer.max_steps or steps)
