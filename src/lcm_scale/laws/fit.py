"""Fitting a law and saying how sure it is.

`fit` solves for the linear coefficients exactly at every point of a grid of exponents (variable
projection: non-negative least squares, all active sets at once), then polishes all of them together
by Huber's loss on log-residuals, summed. `profile_interval` holds one parameter fixed and fits the
rest: the interval is where the loss rises by less than an F-quantile allows, which few runs widen.
`bootstrap` draws whole clusters. A sum, not a mean, of losses: a mean of tiny numbers meets an
optimiser's tolerance before it has converged (Besiroglu et al. 2024, who found the published fit
short of its optimum).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import f as f_distribution

from lcm_scale.errors import InputError
from lcm_scale.laws.laws import Law, Runs, Scale

EFFICIENT = (
    1.345  # Huber's constant, in standard deviations: 95 % efficient where residuals are normal
)
SMALLEST_DELTA = 1e-3  # of a log-residual
LEVEL = 0.95
CANDIDATES = 2  # best grid points that are polished


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        values: by `law.names`.   delta: Huber's threshold.   objective: the summed loss.
        sigma: robust standard deviation of the log-residuals, corrected for the number of
            parameters.
    """

    law: Law
    scale: Scale
    runs: Runs
    values: np.ndarray
    delta: float
    objective: float
    sigma: float
    named: Mapping[str, float] = field(default_factory=dict)

    def predict(self, runs: Runs) -> np.ndarray:
        return self.law.predict(runs, self.scale, self.values)

    @property
    def residuals(self) -> np.ndarray:
        return np.log(self.runs.loss) - np.log(self.predict(self.runs))


@dataclass(frozen=True)
class Interval:
    """95 %; an end is the parameter's own bound (0 for a coefficient) where the data do not speak
    against it."""

    low: float
    high: float
    bounded_below: bool = True
    bounded_above: bool = True

    @property
    def width(self) -> float:
        return self.high - self.low


def needed(law: Law) -> int:
    """Runs that a law needs at the least: two more than it has parameters."""
    return len(law.names) + 2


def check(law: Law, runs: Runs) -> None:
    """Raises: InputError that says how many runs, or which variation, are missing."""
    missing = needed(law) - len(runs)
    if missing > 0:
        raise InputError(
            f"law {law.name}: {len(runs)} usable runs, it has {len(law.names)} parameters and "
            f"needs at least {needed(law)}: {missing} more"
        )
    for name in law.varied:
        values = len(np.unique(getattr(runs, name)))
        least = 3 if name in ("parameters", "seen") else 2
        if values < least:
            raise InputError(
                f"law {law.name}: the runs hold {values} different values of {name}, it needs at "
                f"least {least}: {least - values} more"
            )


def fit(
    law: Law,
    runs: Runs,
    scale: Scale | None = None,
    start: np.ndarray | None = None,
    delta: float | None = None,
) -> Fit:
    """Fit a law.

    Args:
        scale: of another fit, to compare coefficients; None: the runs' own.
        start: polish from here and skip the grid (bootstrap, profiles).
        delta: Huber's threshold; None: from the residuals.
    """
    scale = scale or Scale.of(runs)
    held = np.full(len(law.names), np.nan)
    starts = [start] if start is not None else _grid(law, runs, scale, held)
    if delta is None:
        delta = max(
            SMALLEST_DELTA,
            EFFICIENT * _spread(_log_residuals(law, runs, scale, starts[0]), len(law.names)),
        )
        # The grid's best minimises squares: once polished, its residuals say better how large they
        # are.
        best = min(
            (_polish(law, runs, scale, s, held, delta) for s in starts), key=lambda pair: pair[1]
        )
        starts = [best[0]]
        delta = max(
            SMALLEST_DELTA,
            EFFICIENT * _spread(_log_residuals(law, runs, scale, best[0]), len(law.names)),
        )
    values, objective = min(
        (_polish(law, runs, scale, s, held, delta) for s in starts), key=lambda pair: pair[1]
    )
    sigma = _dispersion(_log_residuals(law, runs, scale, values), delta, len(law.names))
    return Fit(
        law,
        scale,
        runs,
        values,
        delta,
        objective,
        sigma,
        dict(zip(law.names, values.tolist(), strict=True)),
    )


def objective_at(
    result: Fit, name: str, value: float, start: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """The lowest summed loss with one parameter held, and the parameters there."""
    held = np.full(len(result.law.names), np.nan)
    held[result.law.names.index(name)] = value
    starts = [
        result.values if start is None else start,
        *_grid(result.law, result.runs, result.scale, held)[:1],
    ]
    values, objective = min(
        (_polish(result.law, result.runs, result.scale, s, held, result.delta) for s in starts),
        key=lambda pair: pair[1],
    )
    return objective, values


def drop(result: Fit, objective: float) -> float:
    """The rise of the summed loss in units that an F-quantile judges (drop in dispersion; Schrader
    and Hettmansperger 1980): twice the difference over the variance that the residuals show."""
    return max(0.0, 2 * (objective - result.objective)) / max(result.sigma**2, 1e-300)


def threshold(result: Fit, level: float = LEVEL) -> float:
    """What `drop` may reach within the interval: an F-quantile with as many degrees of freedom as
    runs beyond parameters."""
    return float(f_distribution.ppf(level, 1, max(1, len(result.runs) - len(result.law.names))))


def profile_interval(result: Fit, name: str, level: float = LEVEL, steps: int = 18) -> Interval:
    """The interval of one parameter by profile likelihood: outwards in growing steps, then
    bisected."""
    limit = threshold(result, level)
    low_bound, high_bound = _bounds(result.law, result.runs, name)
    best = result.named[name]
    ends = []
    for bound, sign in ((low_bound, -1), (high_bound, 1)):
        inside, step = (
            best,
            max(abs(best) * 0.02, abs(bound - best) * 1e-4 if np.isfinite(bound) else 1e-6, 1e-9),
        )
        outside, at = None, result.values
        for _ in range(40):
            value = inside + sign * step
            value = max(value, bound) if sign < 0 else min(value, bound)
            objective, found = objective_at(result, name, value, at)
            if drop(result, objective) > limit:
                outside = value
                break
            inside, at, step = value, found, step * 1.8
            if value == bound:
                break
        if outside is None:
            ends.append((inside, False))
            continue
        for _ in range(steps):
            middle = (inside + outside) / 2
            if abs(outside - inside) < 0.004 * max(abs(outside - best), 1e-12):
                break
            if drop(result, objective_at(result, name, middle, at)[0]) > limit:
                outside = middle
            else:
                inside = middle
        ends.append((inside, True))
    return Interval(ends[0][0], ends[1][0], ends[0][1], ends[1][1])


def bootstrap(result: Fit, draws: int, seed: int) -> np.ndarray:
    """Parameters refitted to resampled clusters, (draws, parameters); each polished from the fit
    and from the grid."""
    rng = np.random.default_rng(seed)
    clusters = np.unique(result.runs.cluster)
    members = [np.flatnonzero(result.runs.cluster == c) for c in clusters]
    out = []
    for _ in range(draws):
        chosen = rng.integers(0, len(clusters), len(clusters))
        runs = result.runs.take(np.concatenate([members[c] for c in chosen]))
        held = np.full(len(result.law.names), np.nan)
        starts = [result.values, *_grid(result.law, runs, result.scale, held)[:1]]
        out.append(
            min(
                (_polish(result.law, runs, result.scale, s, held, result.delta) for s in starts),
                key=lambda p: p[1],
            )[0]
        )
    return np.array(out)


def percentile_interval(draws: np.ndarray, law: Law, name: str) -> Interval:
    low, high = np.percentile(draws[:, law.names.index(name)], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(float(low), float(high))


# -- the grid: exact in the linear coefficients ----------------------------------------------------


def _grid(law: Law, runs: Runs, scale: Scale, held: np.ndarray) -> list[np.ndarray]:
    """The best grid points, by squared relative residuals."""
    k = len(law.coefficients)
    axes = [
        np.array([held[k + i]]) if np.isfinite(held[k + i]) else grid
        for i, grid in enumerate(law.exponents.values())
    ]
    points = np.array(list(itertools.product(*axes)))
    terms = np.stack([law.terms(runs, scale, point) for point in points]) / runs.loss[:, None]
    fixed = np.isfinite(held[:k])
    target = 1 - terms[..., fixed] @ held[:k][fixed]
    free = np.flatnonzero(~fixed)
    solved, errors = _non_negative(terms[..., free], target)
    best = np.argsort(errors, kind="stable")[:CANDIDATES]
    found = []
    for i in best:
        values = np.concatenate([np.nan_to_num(held[:k]), points[i]])
        values[free] = solved[i]
        found.append(values)
    return found


def _non_negative(terms: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with coefficients from zero, for all grid points at once: of all subsets of the
    columns, the best one whose solution is not negative (exact; there are at most 15).

    Args: terms: (g, n, k).  target: (g, n) or (n,).
    Returns: (g, k) coefficients and (g,) summed squares.
    """
    g, _, k = terms.shape
    target = np.broadcast_to(target, terms.shape[:2])
    gram = np.einsum("gnk,gnl->gkl", terms, terms)
    right = np.einsum("gnk,gn->gk", terms, target)
    total = (target**2).sum(1)
    best, errors = np.zeros((g, k)), total.copy()
    for size in range(1, k + 1):
        for subset in itertools.combinations(range(k), size):
            s = list(subset)
            part = gram[:, s][:, :, s]
            ridge = 1e-12 * np.trace(part, axis1=1, axis2=2)[:, None, None] * np.eye(size)
            solved = np.linalg.solve(part + ridge, right[:, s][..., None])[..., 0]
            # From the residuals themselves: the difference of two large sums loses the small ones.
            squares = ((target - np.einsum("gnk,gk->gn", terms[:, :, s], solved)) ** 2).sum(1)
            better = (solved >= 0).all(1) & (squares < errors)
            errors[better] = squares[better]
            best[better] = 0
            best[np.ix_(better, s)] = solved[better]
    return best, errors


# -- the polish ------------------------------------------------------------------------------------


def _bounds(law: Law, runs: Runs, name: str) -> tuple[float, float]:
    if name in law.exponents:
        return float(law.exponents[name][0]), float(law.exponents[name][-1])
    return (0.0, float(runs.loss.min())) if name == "E" else (0.0, 10 * float(runs.loss.max()))


def _polish(
    law: Law, runs: Runs, scale: Scale, start: np.ndarray, held: np.ndarray, delta: float
) -> tuple[np.ndarray, float]:
    """Huber's loss on log-residuals, summed, over all parameters that are not held.  Returns:
    (values, summed loss)."""
    free = np.flatnonzero(~np.isfinite(held))
    bounds = np.array([_bounds(law, runs, name) for name in law.names]).T
    values = np.where(np.isfinite(held), held, np.clip(start, bounds[0], bounds[1]))
    span = bounds[1][free] - bounds[0][free]
    inner = np.clip(values[free], bounds[0][free] + 1e-9 * span, bounds[1][free] - 1e-9 * span)
    target = np.log(runs.loss)

    k = len(law.coefficients)

    def filled(x: np.ndarray) -> np.ndarray:
        full = values.copy()
        full[free] = x
        return full

    def residuals(x: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(law.predict(runs, scale, filled(x)), 1e-12)) - target

    def slopes(x: np.ndarray) -> np.ndarray:
        # Exact in the coefficients; differences in the exponents alone.
        full = filled(x)
        terms = law.terms(runs, scale, full[k:])
        loss = np.maximum(terms @ full[:k], 1e-12)
        columns = [terms[:, i] for i in range(k)]
        for i in range(k, len(full)):
            moved = full[k:].copy()
            step = 1e-6 * moved[i - k]
            moved[i - k] += step
            columns.append((law.terms(runs, scale, moved) - terms) @ full[:k] / step)
        return np.asarray(np.stack(columns, axis=1)[:, free] / loss[:, None])

    if not len(free):
        return values, _huber(residuals(inner), delta)
    found = least_squares(
        residuals,
        inner,
        slopes,
        bounds=(bounds[0][free], bounds[1][free]),
        loss="huber",
        f_scale=delta,
        x_scale="jac",
        xtol=1e-10,
        ftol=1e-12,
        gtol=1e-12,
        max_nfev=200,
    )
    values[free] = found.x
    return values, float(found.cost)


def _huber(r: np.ndarray, delta: float) -> float:
    small = np.abs(r) <= delta
    return float(np.where(small, r**2 / 2, delta * (np.abs(r) - delta / 2)).sum())


def _log_residuals(law: Law, runs: Runs, scale: Scale, values: np.ndarray) -> np.ndarray:
    return np.log(runs.loss) - np.log(np.maximum(law.predict(runs, scale, values), 1e-12))


def _spread(r: np.ndarray, parameters: int) -> float:
    """Median absolute residual as a standard deviation, corrected for what the parameters
    absorbed."""
    return float(1.4826 * np.median(np.abs(r)) * np.sqrt(len(r) / max(1, len(r) - parameters)))


def _dispersion(r: np.ndarray, delta: float, parameters: int) -> float:
    """Square root of sum psi^2 / (n - p) over the share of residuals within delta."""
    within = max(float((np.abs(r) <= delta).mean()), 1 / len(r))
    psi = np.clip(r, -delta, delta)
    return float(np.sqrt((psi**2).sum() / max(1, len(r) - parameters) / within))
