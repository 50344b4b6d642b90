"""How well a simulated cohort's labels can be told at best: the simulator's own Bayes posterior.

With `simulation.separation` everybody has some amount of every effect, and a label moves its mean
alone:

    amount = mean(label; of the group also age, site) + z,   z standard normal, a person and effect

A scan depends on the labels through its amounts and its site, so that no reader of the scan can do
better than who knows both: the posterior given them, of the classes and, on a grid, of age. Who has
the scan alone sees the amounts with noise, and does worse.

Out: a number a scan and label, in columns of the phenotype table. A shard recipe takes them along
as columns of context by the names of `column_of`. They are knowledge of the simulator: an
evaluation reads them, for a row of its own; to a model they may not be told.
Shapes: n people, G ages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lcm_scale.config import SimulationConfig

PREFIX = "ceiling "
AGES = (8.0, 45.0)  # years, uniform
PATIENTS, MALES, OPEN = 0.5, 0.6, 0.5  # shares of people
AGE_REACH = 2.0  # separations between the youngest and the oldest: neighbours in age are alike
LOG_SPREAD = 0.6  # standard deviation of the logarithm of an effect's variance
GRID = 100  # ages


def column_of(target: str, category: str = "") -> str:
    """Name of the column of context with the probability of a category, or the mean of a scalar."""
    return f"{PREFIX}{target} {category}".rstrip()


def mean_amounts(
    config: SimulationConfig,
    age: np.ndarray,
    site: np.ndarray,
    patient: np.ndarray,
    male: np.ndarray,
    eyes_open: np.ndarray,
) -> dict[str, np.ndarray]:
    """Effect -> mean amount of such people, in standard deviations of z.

    Args: age: from 0, the youngest, to 1.   site: numbers.   the others: 0 or 1; all broadcast.
    """
    return {
        "group": group_separation(config, age, site) * patient,
        "sex": config.separation * male,
        "age": AGE_REACH * config.separation * age,
        "task": config.separation * eyes_open,
    }


def group_separation(config: SimulationConfig, age: np.ndarray, site: np.ndarray) -> np.ndarray:
    """Between the mean amounts of patients and controls; as `mean_amounts`."""
    numbers, place = np.unique(site, return_inverse=True)
    drawn = [np.random.default_rng((13, int(number))).uniform(-1, 1) for number in numbers]
    of_site = 1 + config.site_interaction * np.array(drawn)[place].reshape(np.shape(site))
    of_age = 1 + config.age_interaction * (2 * age - 1)
    return np.asarray(config.separation * of_age * of_site)


def middle(config: SimulationConfig, effect: str) -> float:
    """Half way between the means of an effect's two ends, interactions aside."""
    return config.separation * (AGE_REACH if effect == "age" else 1.0) / 2


def posterior(
    config: SimulationConfig, amounts: Mapping[str, np.ndarray], site: np.ndarray
) -> dict[str, np.ndarray]:
    """What the amounts and the site say of the labels: (n,) probability of `patient`, `male` and
    `eyes_open`, and the mean of `age` in years.

    Args: amounts: effect -> (n,).   site: (n,) numbers.
    """
    ages = (np.arange(GRID) + 0.5) / GRID
    own = {name: value[:, None] for name, value in amounts.items()}
    control, patient = (
        mean_amounts(config, ages, site[:, None], *np.array([yes, yes, yes])) for yes in (0, 1)
    )

    def likelihood(effect: str, mean: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.exp(-0.5 * (own[effect] - mean[effect]) ** 2)

    of_age = likelihood("age", control)  # (n, G), of the amount of age alone
    without = (1 - PATIENTS) * likelihood("group", control) * of_age
    with_it = PATIENTS * likelihood("group", patient) * of_age
    both = without + with_it
    return {
        "patient": with_it.sum(1) / both.sum(1),
        "male": _of_two(likelihood("sex", patient), likelihood("sex", control), MALES),
        "eyes_open": _of_two(likelihood("task", patient), likelihood("task", control), OPEN),
        "age": AGES[0] + (AGES[1] - AGES[0]) * (both * ages).sum(1) / both.sum(1),
    }


def _of_two(yes: np.ndarray, no: np.ndarray, share: float) -> np.ndarray:
    """(n,) probability of the first.  Args: likelihoods (n, 1)."""
    return np.asarray(share * yes / (share * yes + (1 - share) * no))[:, 0]


def bayes_accuracy(config: SimulationConfig, people: int = 20_000, seed: int = 0) -> float:
    """The share of people whose diagnosis the posterior gets right, over drawn people of the
    cohort's sites."""
    rng = np.random.default_rng(seed)
    site = config.first_site + rng.integers(config.sites, size=people)
    yes = [(rng.random(people) < share).astype(int) for share in (PATIENTS, MALES, OPEN)]
    means = mean_amounts(config, rng.random(people), site, *yes)
    amounts = {name: mean + rng.standard_normal(people) for name, mean in means.items()}
    told = posterior(config, amounts, site)["patient"] > 0.5
    return float((told == yes[0]).mean())


def of_question(
    target: str,
    categories: Sequence[str],
    names: Sequence[str],
    values: np.ndarray,
) -> np.ndarray | None:
    """What the columns of context say of a question: (n, C) probabilities or (n,) values; None
    where they do not, or not of every scan.

    Args:
        categories: C answers, empty for a scalar. One of them may be left out.
        names: of the columns.   values: (n, K) of the scans asked about, NaN missing.
    """
    found = {name: values[:, place].astype(np.float64) for place, name in enumerate(names)}
    if not categories:
        value = found.get(column_of(target))
        return None if value is None or np.isnan(value).any() else value
    own = [found.get(column_of(target, category)) for category in categories]
    missing = [place for place, one in enumerate(own) if one is None]
    if len(missing) > 1:
        return None
    known = np.array([one if one is not None else np.zeros(len(values)) for one in own])
    if np.isnan(known).any():
        return None
    known[missing] = 1 - known.sum(0)
    return known.T
