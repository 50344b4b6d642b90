"""What is asked of an evaluated set: its targets, with the set's own categories as answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lcm_scale.config import Recipe
from lcm_scale.data.sets import ShardSets
from lcm_scale.errors import InputError, nearest
from lcm_scale.vocabulary import NOT_APPLICABLE, Target


@dataclass(frozen=True)
class Question:
    """One target as it is asked of the evaluated set.

    Attributes:
        column: its column in `ShardSets.labels`.
        categories: the set's own labels; N/A and other sets' categories are no answers.
        codes: (C,) their codes in the run's vocabulary, empty for a scalar.
    """

    target: Target
    column: int
    categories: tuple[str, ...]
    codes: tuple[int, ...]

    @property
    def kind(self) -> str:
        return "class" if self.target.is_class else "scalar"

    @property
    def asked(self) -> tuple[str, tuple[str, ...]]:
        """As a `Predictor` is asked: the target, and the categories that are answers."""
        return self.target.name, self.categories if self.target.is_class else ()

    def truth(self, labels: np.ndarray) -> np.ndarray:
        """(n,) position in `categories` or value, NaN where missing or no answer."""
        column = labels[:, self.column]
        if not self.target.is_class:
            return column
        out = np.full(len(column), np.nan)
        for position, code in enumerate(self.codes):
            out[column == code] = position
        return out


def evaluated_set(recipe: Recipe, sets: ShardSets) -> str:
    name = recipe.evaluate.set or sets.names[-1]
    if name not in sets.names:
        raise InputError(
            f"evaluate.set={name} is not in data.sets "
            f"({', '.join(sets.names)}){nearest(name, sets.names)}"
        )
    return name


def questions_of(recipe: Recipe, sets: ShardSets, names: Sequence[str] = ()) -> list[Question]:
    """The evaluated targets, the headline first.

    Args: names: of the sets whose targets and categories are asked; none: the evaluated one.
    Raises: InputError.
    """
    asked = list(names) or [evaluated_set(recipe, sets)]
    own = _categories(sets, asked)
    available = [t for t in sets.vocabulary.targets if t.name in own]
    active = recipe.phases[-1].targets
    wanted = recipe.evaluate.targets or [
        t.name for t in available if not active or t.name in active
    ]
    headline = recipe.evaluate.target or (wanted[0] if wanted else "")
    chosen = list(dict.fromkeys([headline, *wanted]))
    known = [t.name for t in available]
    questions = []
    for name in chosen:
        if name not in known:
            raise InputError(
                f"evaluate: set {', '.join(asked)} has no target '{name}'{nearest(name, known)} "
                f"({', '.join(known)})"
            )
        if active and name not in active:
            raise InputError(
                f"evaluate: target '{name}' is not among the last phase's targets "
                f"({', '.join(active)})"
            )
        target = sets.vocabulary[name]
        labels = own[name]
        codes = tuple(target.categories.index(c) for c in labels) if target.is_class else ()
        questions.append(Question(target, sets.vocabulary.names.index(name), labels, codes))
    for name in recipe.evaluate.confounded:
        if name not in chosen:
            raise InputError(
                f"evaluate.confounded: '{name}' is not evaluated{nearest(name, chosen)}"
            )
    return questions


def _categories(sets: ShardSets, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Target of the run -> the categories that these sets have of it, in their own order, without
    N/A."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        number = sets.names.index(name)
        for old, new in sets.renames[number].items():
            own = sets.manifests[number].vocabulary[old].categories
            labels = (c for c in own if c != NOT_APPLICABLE)
            found[new] = tuple(dict.fromkeys((*found.get(new, ()), *labels)))
    return found
