"""From a checkpoint to a new run: do they fit, and which weight goes where.

Every pretrained token stays; the tokens of new categories are inserted between the pretrained
classes and sex and age, with fresh values. So new tokens attend to the pretrained BEI
representations (paper, finetuning).
"""

from __future__ import annotations

import torch

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import LCMConfig, resolve
from lcm_scale.vocabulary import Vocabulary
from lcm_scale.weights.checkpoints import Checkpoint


def check_fit(recipe: Recipe, sets: ShardSets, start: Checkpoint) -> None:
    """Raises: InputError where a recipe cannot start from a checkpoint."""
    mine = resolve(recipe.model, sets.atlas.n_regions, ())
    for key in ("width", "layers", "heads", "ffn", "edge_branch"):
        if getattr(mine, key) != getattr(start.model, key):
            raise InputError(
                f"{start.path}: a checkpoint of another size: {key} is "
                f"{getattr(start.model, key)}, "
                f"the recipe's {getattr(mine, key)}; set model.preset or model.{key}"
            )
    if recipe.data.edges != start.edges:
        raise InputError(
            f"{start.path}: trained on data.edges={start.edges}, the recipe says "
            f"{recipe.data.edges}"
        )
    check_kinds(start, sets, recipe.data.mix_kinds)
    # Imported weights have no salt: whom they saw cannot be looked up.
    if start.salt_id and start.salt_id != sets.manifests[0].salt_id:
        raise InputError(
            f"{start.path}: its subjects were hashed with another salt than {sets.names[0]}'s, so "
            "nobody can tell whether people overlap; shard both in one project"
        )


def check_kinds(model: Checkpoint, sets: ShardSets, mix: bool) -> None:
    """Raises: InputError where a model has seen other kinds of connectivity than the sets hold, and
    the recipe does not say that they may mix."""
    for manifest in sets.manifests:
        if model.kinds and manifest.kind not in model.kinds and not mix:
            raise InputError(
                f"{model.path}: was trained on {', '.join(model.kinds)} matrices, set "
                f"{manifest.name} holds {manifest.kind} ones; shard it with that "
                "connectivity.kind, or set data.mix_kinds=true (the report says so)"
            )


def check_weights(start: Checkpoint, model: LCMConfig) -> None:
    """See that a checkpoint's weights have a place in a model, before that is made.

    Args:
        model: of the new run; the rows of its tokens may be others than the checkpoint's.
    Raises: InputError where a weight is missing or has another shape.
    """
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in LCM(model).state_dict().items()}
    for name in shapes:
        if name not in start.state and ".target_" not in name:
            raise InputError(f"{start.path}: lacks the weight {name}")
    for name, value in decoder_of(start).items():
        if ".target_" not in name and shapes.get(name) != value.shape:
            raise InputError(
                f"{start.path}: weight {name} of shape {tuple(value.shape)} has no place in this "
                "model"
            )


def decoder_of(start: Checkpoint) -> dict[str, torch.Tensor]:
    """A checkpoint's weights without its people memory, which a new run fits on its own people."""
    return {k: v for k, v in start.state.items() if not k.startswith("people.")}


@torch.no_grad()
def transfer(
    start: Checkpoint, model: LCM, vocabulary: Vocabulary, renames: dict[str, str]
) -> None:
    """Copy a checkpoint's weights, which `check_weights` has seen; tokens go by target and
    category.

    Args:
        renames: the checkpoint's target names -> names in `vocabulary`.
    """
    state = model.state_dict()
    for name, value in decoder_of(start).items():
        table, of_target, number = name.rpartition(".target_")
        if not of_target:
            state[name].copy_(value)
            continue
        old = start.vocabulary.targets[int(number)]
        new = vocabulary[renames[old.name]]
        rows = state[f"{table}.target_{vocabulary.names.index(new.name)}"]
        for row, category in enumerate(old.categories):
            rows[new.categories.index(category)].copy_(value[row])
