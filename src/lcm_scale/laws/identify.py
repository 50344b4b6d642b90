"""What a planned design can tell: losses drawn from assumed coefficients on its points, then fitted
as a real sweep's are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcm_scale.config import SweepRecipe
from lcm_scale.laws.fit import LEVEL, check, fit
from lcm_scale.laws.laws import Runs, Scale, law_of
from lcm_scale.sweep.plan import Plan


@dataclass(frozen=True)
class Identified:
    """One coefficient of the assumed law, as the design would estimate it: the middle and 95 % of
    the simulated estimates."""

    name: str
    truth: float
    median: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Estimated to better than its own size."""
        return self.high - self.low < abs(self.truth)


def identify(made: Plan) -> list[Identified]:
    """Simulate the planned design from `assume`.  Raises: InputError where it is too small for the
    law."""
    recipe = made.sweep.recipe
    law = law_of(recipe.assume.law)
    runs = design_of(made)
    check(law, runs)
    scale = Scale.of(runs)
    a = recipe.assume
    known = {"E": a.E, "A": a.size, "B": a.data, "P": 0.05, "a": a.a, "b": a.b, "R": 15.0, "c": 0.5}
    truth = np.array([known[name] for name in law.names])
    clean = law.predict(runs, scale, truth)
    rng = np.random.default_rng(0)
    draws = np.array(
        [
            fit(
                law, runs.with_loss(clean * np.exp(a.noise * rng.standard_normal(len(runs)))), scale
            ).values
            for _ in range(a.draws)
        ]
    )
    low, middle, high = np.percentile(draws, [50 * (1 - LEVEL), 50, 50 * (1 + LEVEL)], axis=0)
    return [
        Identified(*row)
        for row in zip(
            law.names, truth.tolist(), middle.tolist(), low.tolist(), high.tolist(), strict=True
        )
    ]


def design_of(made: Plan) -> Runs:
    """The planned points as a law sees them, without losses."""
    columns = [
        (p.parameters, p.people * p.point.epochs, p.people, p.point.epochs) for p in made.points
    ]
    parameters, seen, unique, epochs = np.array(columns, float).T
    return Runs(np.ones(len(columns)), parameters, seen, unique, epochs, np.arange(len(columns)))


def assumed(recipe: SweepRecipe) -> str:
    a = recipe.assume
    return f"{a.law}: E {a.E}, size {a.size}, data {a.data}, a {a.a}, b {a.b}, noise {a.noise:.0%}"
