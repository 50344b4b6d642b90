"""Where a checkpoint's weights come from, as far as its recipe says, in a sentence that names no
place of a machine."""

from __future__ import annotations

from pathlib import PurePath

from lcm_scale.config.yaml_text import parse
from lcm_scale.weights.meaning import Meaning


def history_of(meaning: Meaning) -> str:
    """Whether the weights are from before or after finetuning, and which phases trained them.

    Args: meaning: of a checkpoint.   Returns: '' where its recipe does not say.
    """
    if meaning.history or not meaning.recipe:
        return meaning.history
    recipe = parse(meaning.recipe, "the recipe")
    start = recipe.get("init_from")
    names = [str(phase["name"]) for phase in recipe.get("phases") or ()]
    if meaning.phase not in names:  # imported weights were trained elsewhere
        return ""
    trained = ", ".join(names[: names.index(meaning.phase) + 1])
    if start is None:
        return f"Before finetuning: trained from random weights (phases: {trained})."
    origin = PurePath(str(start)).name
    return f"After finetuning: went on from {origin} (phases: {trained})."
