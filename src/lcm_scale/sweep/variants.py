"""The runs of an ablation: a base and its variants as pure data, one run recipe a variant and seed.

In: an `AblationRecipe` and the run recipe that is its base. Out: `Variant`s in the recipe's order,
the base first. A run's folder follows from its variant's name and its seed, so that variants and
seeds may be added, and what is done is never done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lcm_scale.config import AblationRecipe, Recipe, expand, load, override
from lcm_scale.config.fields import GROUP_NAME, dotted
from lcm_scale.errors import InputError, nearest
from lcm_scale.evaluation.baselines import BASELINES

BASE = "base"
# What a variant may change of the questions: the folds and the people must stay as they are.
MAY_ASK = ("evaluate.targets", "evaluate.repeats", "evaluate.harmonise")
OURS = ("name", "title", "runs_dir", "seed", "data.shards_dir")  # the ablation's own to say


@dataclass(frozen=True)
class Variant:
    """The base with one part changed.

    Attributes:
        recipe: its run recipe, name and seed aside.
        changes: dotted key -> (the base's value, its own); empty for the base.
    """

    name: str
    recipe: Recipe
    changes: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Ablation:
    """An ablation laid out: the base first among its variants."""

    recipe: AblationRecipe
    variants: tuple[Variant, ...]

    @property
    def folder(self) -> Path:
        return expand(self.recipe.runs_dir) / self.recipe.name

    @property
    def base(self) -> Variant:
        return self.variants[0]

    @property
    def runs(self) -> list[tuple[Variant, int]]:
        """Variants and seeds, seed by seed: a first answer to everything comes early."""
        return [(variant, seed) for seed in self.recipe.seeds for variant in self.variants]

    def folder_of(self, variant: Variant, seed: int) -> Path:
        return self.folder / variant.name / f"seed-{seed}"

    def recipe_of(self, variant: Variant, seed: int) -> Recipe:
        """A run's own recipe. Baselines know no seed and no variant, so the base's first run has
        them for all."""
        first = variant is self.base and seed == self.recipe.seeds[0]
        evaluate = variant.recipe.evaluate
        return replace(
            variant.recipe,
            name=f"{self.recipe.name}/{variant.name}/seed-{seed}",
            runs_dir=self.recipe.runs_dir,
            seed=seed,
            evaluate=evaluate if first else replace(evaluate, baselines=[]),
        )


def open_ablation(path: Path, overrides: Sequence[str] = ()) -> Ablation:
    """Read an ablation's recipe and lay out its runs.

    Raises: InputError for an unknown key or value, also of a variant, a variant that changes
        nothing or what all must share, and for an ablation without variants or seeds.
    """
    recipe = load(AblationRecipe, path, overrides)
    if not recipe.recipe:
        raise InputError(
            f"{path}: recipe is empty: name the run recipe that is the base, for example "
            "recipe: abide_small"
        )
    if not recipe.variants:
        raise InputError(
            f"{path}: variants is empty: name at least one, for example "
            "variants: {mean readout: {phases: ...}}"
        )
    if not recipe.seeds or len(set(recipe.seeds)) < len(recipe.seeds):
        raise InputError(f"{path}: seeds={recipe.seeds}: expected at least one, and none twice")
    name = recipe.recipe if recipe.recipe.endswith(".yaml") else f"{recipe.recipe}.yaml"
    base_path = path.parent / name
    shards = [override("data.shards_dir", recipe.shards_dir)] if recipe.shards_dir else []
    common = [*recipe.overrides, *shards, *recipe.set]
    base = load(Recipe, base_path, common)
    if base.evaluate.checkpoint:
        raise InputError(
            f"{base_path}: evaluate.checkpoint: an ablation trains each variant anew; leave it out"
        )
    for baseline in base.evaluate.baselines:
        if baseline not in BASELINES:
            raise InputError(
                f"{base_path}: evaluate.baselines: '{baseline}'{nearest(baseline, BASELINES)}"
            )
    variants = [
        _variant(name, values, base, base_path, common, f"{path}: variants.{name}")
        for name, values in recipe.variants.items()
        if values is not None  # left out on the command line
    ]
    return Ablation(recipe, (Variant(BASE, base, {}), *variants))


def _variant(
    name: str, values: Any, base: Recipe, base_path: Path, common: Sequence[str], where: str
) -> Variant:
    if not GROUP_NAME.fits(name) or name == BASE:
        raise InputError(
            f"{where}: a variant's name holds letters, digits, spaces and - _ . @ + only, and is "
            f"not '{BASE}'"
        )
    if not isinstance(values, Mapping):
        raise InputError(
            f"{where}: expected keys of the run recipe and their values, as in "
            "{model.people_memory: none}"
        )
    own = [override(key, value) for key, value in dotted(values).items()]
    try:
        recipe = load(Recipe, base_path, [*common, *own])
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    changes = _changes(base, recipe)
    if not changes:
        raise InputError(f"{where}: is the base as it stands; change one part of it")
    for key in changes:
        if key in OURS or (key.startswith("evaluate.") and key not in MAY_ASK):
            raise InputError(
                f"{where}: {key}: the same for all variants, which are compared on the same folds; "
                "change it in the base, under overrides"
            )
    # The base's marks of what it may not be believed in go with the targets that are left.
    asked, marks = recipe.evaluate.targets, recipe.evaluate.confounded
    if "evaluate.targets" in changes and asked:
        left = {target: why for target, why in marks.items() if target in asked}
        recipe = replace(recipe, evaluate=replace(recipe.evaluate, confounded=left))
    return Variant(name, recipe, changes)


def _changes(base: Recipe, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (before, now) of what differs; where there are as many phases as before, what
    differs in each: `phases.2.readout`."""
    before, now = (dotted(asdict(r)) for r in (base, recipe))
    if len(before["phases"]) == len(now["phases"]):
        before, now = (
            flat | dotted({"phases": dict(enumerate(flat.pop("phases"), 1))})
            for flat in (before, now)
        )
    return {
        key: (before.get(key), now.get(key))
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    }
