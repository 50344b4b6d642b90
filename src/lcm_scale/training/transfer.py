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
from lcm_scale.model.presets import resolve
from lcm_scale.vocabulary import Vocabulary
from lcm_scale.weights.checkpoints import Checkpoint


def check_fit(recipe: Recipe, sets: ShardSets, start: Checkpoint) -> None:
    """Raises: InputError where a recipe cannot start from a checkpoint."""
    mine = resolve(recipe.model, sets.atlas.n_regions, ())
    for key in ("width", "layers", "heads", "ffn", "edge_branch"):
        if getattr(mine, key) != getattr(start.model, key):
            raise InputError(
                f"{start.path}: a checkpoint of another size: {key} is {getattr(start.model, key)}, "
                f"the recipe's {getattr(mine, key)}; set model.preset or model.{key}"
            )
    if recipe.data.edges != start.edges:
        raise InputError(
            f"{start.path}: trained on data.edges={start.edges}, the recipe says {recipe.data.edges}"
        )
    # Imported weights have no salt: whom they saw cannot be looked up.
    if start.salt_id and start.salt_id != sets.manifests[0].salt_id:
        raise InputError(
            f"{start.path}: its subjects were hashed with another salt than {sets.names[0]}'s, so nobody can tell whether "
            "people overlap; shard both in one project"
        )


@torch.no_grad()
def transfer(
    start: Checkpoint, model: LCM, vocabulary: Vocabulary, renames: dict[str, str]
) -> None:
    """Copy a checkpoint's weights; tokens go by target and category.

    Args: renames: the checkpoint's target names -> names in `vocabulary`.
    Raises: InputError where a weight is missing or has another shape.
    """
    own = model.state_dict()
    for name in own:
        if name not in start.state and ".target_" not in name:
            raise InputError(f"{start.path}: lacks the weight {name}")
    for name, value in start.state.items():
        table, of_target, number = name.rpartition(".target_")
        if not of_target:
            if name not in own or own[name].shape != value.shape:
                raise InputError(
                    f"{start.path}: weight {name} of shape {tuple(value.shape)} has no place in this model"
                )
            own[name].copy_(value)
            continue
        old = start.vocabulary.targets[int(number)]
        new = vocabulary[renames[old.name]]
        rows = own[f"{table}.target_{vocabulary.names.index(new.name)}"]
        for row, category in enumerate(old.categories):
            rows[new.categories.index(category)].copy_(value[row])
