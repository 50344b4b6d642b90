"""The points of a sweep: which runs a recipe of axes names, as pure data.

In: a `SweepRecipe` and the run recipe that it varies. Out: `Point`s in a fixed order. A point's
name follows from its values alone, so a point keeps its folder when axes grow, and what is done is
never done again.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lcm_scale.config import EvaluateConfig, Recipe, SweepRecipe, expand, load, override
from lcm_scale.cost.count import DEFAULT_REGIONS, DEFAULT_TARGET_TOKENS
from lcm_scale.errors import InputError, nearest
from lcm_scale.evaluation.baselines import BASELINES
from lcm_scale.model.flops import formulation_of, training_flops
from lcm_scale.model.presets import PRESETS, resolve

# What an axis may be called beside a key of the run recipe: short names of keys, and what a run
# recipe cannot say.
SHORT = {
    "epochs": "trainer.max_epochs",
    "lr": "optim.adaptive.lr",
    "weight_decay": "optim.adaptive.weight_decay",
    "seed": "seed",
}
OWN = ("size", "subjects", "label_share", "fold", "draw")
LETTERS = {
    "subjects": "u",
    "epochs": "e",
    "label_share": "l",
    "lr": "lr",
    "weight_decay": "wd",
    "fold": "f",
    "draw": "d",
    "seed": "s",
}


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: of its folder.
        size: a preset or WIDTHxLAYERS; a baseline's name for a baseline.
        subjects: training people, 0 for all of the fold.   label_share: of them with the headline's
            label.
        seed: of weights and batches.   draw: of which people these are; the seed where no axis says
            otherwise.
        overrides: `key=value` on the run recipe; empty for a baseline.
    """

    name: str
    size: str
    subjects: int
    label_share: float
    fold: int
    seed: int
    draw: int
    epochs: int
    overrides: tuple[str, ...]

    @property
    def is_baseline(self) -> bool:
        return self.size in BASELINES


@dataclass(frozen=True)
class Sweep:
    """A sweep laid out.

    Attributes:
        base: the run recipe, with the sweep's own overrides.   path: its file.
        points: in order, baselines last.   left_out: (name, reason) of those that the design itself
            rules out.
    """

    recipe: SweepRecipe
    base: Recipe
    path: Path
    points: tuple[Point, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    _loaded: dict[tuple[str, ...], Recipe] = field(default_factory=dict, compare=False, repr=False)

    @property
    def folder(self) -> Path:
        return expand(self.recipe.runs_dir) / self.recipe.name

    def folder_of(self, point: Point) -> Path:
        return self.folder / "points" / point.name

    def recipe_of(self, point: Point) -> Recipe:
        """The point's own run recipe."""
        overrides = tuple(o for o in point.overrides if not o.startswith("seed="))
        if overrides not in self._loaded:
            self._loaded[overrides] = load(Recipe, self.path, [*_common(self.recipe), *overrides])
        return replace(
            self._loaded[overrides], name=f"{self.recipe.name}/{point.name}", seed=point.seed
        )


def open_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep recipe and lay out its points.

    Raises: InputError for an unknown key, axis, size or base recipe, and for a sweep without
        points.
    """
    recipe = load(SweepRecipe, path, overrides)
    if not recipe.recipe:
        raise InputError(
            f"{path}: recipe is empty: name the run recipe that the sweep varies, for example "
            "recipe: demo"
        )
    for name in recipe.baselines:
        if name not in BASELINES:
            raise InputError(
                f"{path}: baselines: '{name}'{nearest(name, BASELINES)} (one of "
                f"{', '.join(BASELINES)})"
            )
    base_path = path.parent / (
        recipe.recipe if recipe.recipe.endswith(".yaml") else f"{recipe.recipe}.yaml"
    )
    base = load(Recipe, base_path, _common(recipe))
    values = [one for axes in (recipe.axes, *recipe.also) for one in _product(axes, str(path))]
    if recipe.design == "isoflop":
        values = list(_slices(recipe, base, values, str(path)))
    left_out = [(_name(v), v["left_out"]) for v in values if "left_out" in v]
    points: dict[str, Point] = {}
    for one in (_point(v, base) for v in values if "left_out" not in v):
        other = points.setdefault(one.name, one)
        if set(other.overrides) != set(one.overrides):
            raise InputError(
                f"{path}: two points would lie in one folder, {one.name}: "
                f"{' '.join(other.overrides)}, and {' '.join(one.overrides)}; write their values "
                "so that their names differ in letters or digits"
            )
    if not points:
        raise InputError(
            f"{path}: no point to run: axes is empty"
            + (", or every point was left out" if left_out else "")
        )
    baselines = {
        p.name: p
        for name in recipe.baselines
        for p in (_baseline(name, q) for q in points.values())
    }
    sweep = Sweep(recipe, base, base_path, (*points.values(), *baselines.values()), tuple(left_out))
    for one in points.values():
        # Every key and value is known to be right before anything runs.
        _check_evaluation(path, sweep.recipe_of(one).evaluate)
    return sweep


def _check_evaluation(path: Path, asked: EvaluateConfig) -> None:
    """Raises: InputError where a point's recipe asks for what sweeps do not do."""
    if asked.protocol != "nested":
        raise InputError(
            f"{path}: evaluate.protocol={asked.protocol}: a sweep's folds are nested; leave "
            "the key out, and use it in `lcm-scale evaluate`"
        )
    if asked.group or asked.label_counts:
        key = "group" if asked.group else "label_counts"
        raise InputError(
            f"{path}: evaluate.{key}: a sweep does not know it; leave the key out, and use it "
            "in `lcm-scale evaluate`"
        )
    if asked.harmonise != "none":
        raise InputError(
            f"{path}: evaluate.harmonise: a sweep takes its scans as they are; leave the key "
            "out, and harmonise in `lcm-scale evaluate`"
        )


def shape_of(size: str) -> list[str]:
    """Overrides for a size: a preset, or WIDTHxLAYERS for the small end: feed-forward as wide as
    the model, 8 heads (4 below a width of 128).  Raises: InputError."""
    if size in PRESETS:
        return [f"model.preset={size}"]
    found = re.fullmatch(r"(\d+)x(\d+)", size)
    if not found:
        raise InputError(
            f"size '{size}'{nearest(size, PRESETS)} (a preset: {', '.join(PRESETS)}; or "
            "WIDTHxLAYERS: 64x2)"
        )
    width, layers = int(found[1]), int(found[2])
    heads = 8 if width >= 128 else 4
    if not layers or not width or width % heads:
        raise InputError(
            f"size '{size}': the width must be a multiple of its {heads} heads, with at least one "
            "layer"
        )
    return [
        "model.preset=tiny",
        f"model.width={width}",
        f"model.layers={layers}",
        f"model.heads={heads}",
        f"model.ffn={width}",
    ]


def _common(recipe: SweepRecipe) -> list[str]:
    """What every point's recipe is laid over with, before its own values."""
    shards = [f"data.shards_dir={recipe.shards_dir}"] if recipe.shards_dir else []
    return [*recipe.overrides, *shards, *recipe.set]


# -- from axes to points ---------------------------------------------------------------------------


def _product(axes: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Every combination, a mapping a point."""
    flat = dict(_flat(axes))
    for key, values in flat.items():
        if not isinstance(values, list) or not values:
            raise InputError(
                f"{where}: axes.{key}: expected a list of values, for example [1, 2], not "
                f"{values!r}"
            )
    choices = [
        [v if isinstance(v, dict) else {key: v} for v in values] for key, values in flat.items()
    ]
    for combination in itertools.product(*choices):
        merged: dict[str, Any] = {}
        for part in combination:
            merged |= dict(_flat(part))
        if merged:
            yield merged


def _flat(axes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys: `axes.optim.adaptive.lr=[...]` on the command line nests them."""
    for key, value in axes.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _slices(
    recipe: SweepRecipe, base: Recipe, values: list[dict[str, Any]], where: str
) -> Iterator[dict[str, Any]]:
    """Iso-FLOP slices: each size and number of subjects with the epochs that cost the slice's
    FLOPs."""
    if not recipe.flops:
        raise InputError(
            f"{where}: design: isoflop needs flops, for example flops: [1.0e12, 1.0e13]"
        )
    for one in values:
        if "epochs" in one:
            raise InputError(
                f"{where}: axes.epochs: in an isoflop design the epochs follow from flops"
            )
        size = str(one.get("size", base.model.preset))
        model = resolve(
            load(Recipe, None, shape_of(size)).model, DEFAULT_REGIONS, DEFAULT_TARGET_TOKENS
        )
        people = int(one.get("subjects", 0)) or recipe.people
        epoch = people * training_flops(model, formulation_of(model, model.n_tokens))
        for budget in recipe.flops:
            epochs = round(budget / epoch)
            point = {**one, "epochs": max(1, epochs)}
            if epochs < 1:
                point["left_out"] = (
                    f"one epoch costs {epoch:.2g} FLOP, more than the slice's {budget:.2g}"
                )
            elif epochs > recipe.max_epochs:
                point["left_out"] = f"{epochs} epochs, more than max_epochs={recipe.max_epochs}"
            yield point


def _point(values: Mapping[str, Any], base: Recipe) -> Point:
    overrides = []
    for key, value in values.items():
        if key == "size":
            overrides += shape_of(str(value))
        elif key not in OWN:
            overrides.append(override(SHORT.get(key, key), value))
    try:
        epochs = int(
            values.get("epochs", base.trainer.max_epochs or sum(p.epochs for p in base.phases))
        )
        subjects, fold = int(values.get("subjects", 0)), int(values.get("fold", 1))
        share, seed = float(values.get("label_share", 1.0)), int(values.get("seed", base.seed))
        draw = int(values.get("draw", seed))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"axes: {error} (subjects, epochs, fold and seed are whole numbers)"
        ) from error
    if not 1 <= fold <= base.evaluate.folds:
        raise InputError(
            f"axes.fold: {fold} is not one of the {base.evaluate.folds} folds (evaluate.folds)"
        )
    if not 0 < share <= 1 or subjects < 0 or epochs < 1:
        raise InputError(
            f"axes: {_name(values)}: label_share lies in (0, 1], subjects from 0 (all), epochs "
            "from 1"
        )
    return Point(
        _name(values),
        str(values.get("size", base.model.preset)),
        subjects,
        share,
        fold,
        seed,
        draw,
        epochs,
        tuple(overrides),
    )


def _baseline(name: str, of: Point) -> Point:
    """A baseline on a point's people: draw and fold decide who these are; size and epochs do not
    matter."""
    parts = [name, f"u{of.subjects or 'all'}", f"s{of.draw}", f"f{of.fold}"]
    if of.label_share != 1:
        parts.insert(2, f"l{of.label_share:g}")
    return Point(
        "-".join(parts), name, of.subjects, of.label_share, of.fold, of.draw, of.draw, 0, ()
    )


def _name(values: Mapping[str, Any]) -> str:
    parts = [str(values["size"])] if "size" in values else []
    for key, value in sorted(values.items(), key=lambda item: _rank(item[0])):
        if key in ("size", "left_out") or (key == "draw" and value == values.get("seed", 0)):
            continue  # without a draw of its own a point takes its seed, under the same name
        shown = (
            f"{value:g}"
            if isinstance(value, float)
            else str(value or "all")
            if key == "subjects"
            else "null"
            if value is None
            else str(value)
        )
        parts.append(f"{LETTERS.get(key, key.rpartition('.')[2] + '_')}{shown}")
    return re.sub(r"[^\w.+-]+", "_", "-".join(parts))


def _rank(key: str) -> tuple[int, str]:
    order = list(LETTERS)
    return (order.index(key) if key in order else 4, key)
