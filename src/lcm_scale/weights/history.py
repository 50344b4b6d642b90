"""Where a checkpoint's weights come from and what trained them, as far as its recipe says, in
sentences that name no place of a machine."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from lcm_scale import checked
from lcm_scale.config import LoRAConfig, Trains
from lcm_scale.config.run import LORA_TARGETS
from lcm_scale.config.yaml_text import parse
from lcm_scale.errors import InputError
from lcm_scale.model.flops import parameter_count, trained_parameters
from lcm_scale.model.presets import LCMConfig
from lcm_scale.weights.meaning import LARGEST, Meaning

PARTS = {"attention": "attention", "ffn": "the feed-forward parts"}


def history_of(meaning: Meaning) -> str:
    """Whether the weights are from before or after finetuning, which phases trained them, and which
    part of them where that is not all.

    Args: meaning: of a checkpoint.   Returns: '' where its recipe does not say.
    """
    if meaning.history or not meaning.recipe:
        return meaning.history
    recipe = parse(meaning.recipe, "the recipe")
    start = start_of(meaning)
    names = [str(phase["name"]) for phase in recipe.get("phases") or ()]
    if meaning.phase not in names:  # imported weights were trained elsewhere
        return ""
    trained = ", ".join(names[: names.index(meaning.phase) + 1])
    if not start:
        return f"Before finetuning: trained from random weights (phases: {trained})."
    part = trained_part(meaning.model, trains_of(meaning))
    after = f"After finetuning: went on from {start} (phases: {trained})."
    return f"{after} {part}" if part else after


def start_of(meaning: Meaning) -> str:
    """The name of the run or folder that a checkpoint went on from; '' where there is none."""
    start = parse(meaning.recipe, "the recipe").get("init_from")
    return "" if start is None else PurePath(str(start)).name


def trains_of(meaning: Meaning) -> Trains:
    """What a checkpoint's recipe trains, as `OptimConfig.trains`; all where it does not say."""
    recipe: dict[str, Any] = parse(meaning.recipe, "the recipe") or {}
    optim = checked.members(recipe.get("optim", {}), "optim")
    trainable = checked.text(optim.get("trainable", "all"), "optim.trainable")
    return lora_in(optim.get("lora"), "optim.lora") if trainable == "lora" else trainable


def lora_in(value: object, name: str) -> LoRAConfig:
    """What adapters there are, from plain values of a file.  Raises: InputError."""
    own = checked.members(value, name, ("rank", "alpha", "targets"))
    targets = checked.entries(
        own["targets"], f"{name}.targets", lambda word, at: checked.choice(word, at, LORA_TARGETS)
    )
    if not targets:
        raise InputError(f"{name}.targets: expected at least one of {', '.join(LORA_TARGETS)}")
    rank = checked.whole(own["rank"], f"{name}.rank", 1, LARGEST["width"])
    return LoRAConfig(rank, checked.number(own["alpha"], f"{name}.alpha", 0), list(targets))


def trained_part(model: LCMConfig, trains: Trains) -> str:
    """Which of the weights were trained, in a sentence; '' where all were."""
    if trains == "all":
        return ""
    trained, everything = trained_parameters(model, trains), parameter_count(model)
    numbers = f"{trained:,} weights, where training the whole model would train {everything:,}"
    if isinstance(trains, LoRAConfig):
        on = " and ".join(PARTS[target] for target in trains.targets)
        return (
            f"Low-rank adapters (LoRA) of rank {trains.rank}, alpha {trains.alpha:g}, on {on}, the "
            f"tokens, the last norm and the readout were trained: {numbers}."
        )
    return f"The tokens, the last norm and the readout alone were trained: {numbers}."
