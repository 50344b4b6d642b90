"""Scaling laws as small named functions: a loss is a sum of terms, each a coefficient from zero
upwards times a function of the run's size and data with exponents inside.

N parameters, D data seen, U unique data (both in the unit that the caller chose), T epochs. All are
divided by the middle of the design (`Scale`) before a law sees them, so a coefficient is what its
term adds to the loss there, and coefficients and exponents are far less entangled than with raw N
and D. `raw_coefficients` gives the usual A and B.

chinchilla   E + A N^-a + B D^-b                                   Hoffmann et al. 2022; every scan
counts as new repeated     E + A N^-a + B D'^-b,  D' = U (1 + R (1 - e^(-(T-1)/R)))   after
Muennighoff et al. 2023: a repetition is
             worth less the more there were; R is the number of repetitions at which it is worth
             1/e. Their second term, for parameters in excess of the data, is left out
overfit      E + A N^-a + B D^-b + P ((T - 1) N / U)^c             one additive term for repetition,
             after arXiv 2605.01640, whose abstract alone was at hand: this form of it is ours
data         E + B D^-b                                            size does nothing: the law to
beat saturating   1 - metric = E + A N^-a + B U^-b                      for a metric whose ideal is
1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lcm_scale.errors import InputError, nearest


@dataclass(frozen=True)
class Runs:
    """What a law is fitted to, one entry a run.

    Attributes:
        loss, parameters, seen, unique, epochs: float (n,).
        cluster: int (n,) runs that share their luck and are drawn together by the bootstrap.
    """

    loss: np.ndarray
    parameters: np.ndarray
    seen: np.ndarray
    unique: np.ndarray
    epochs: np.ndarray
    cluster: np.ndarray

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, which: np.ndarray) -> Runs:
        return Runs(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    def with_loss(self, loss: np.ndarray) -> Runs:
        return Runs(loss, self.parameters, self.seen, self.unique, self.epochs, self.cluster)


@dataclass(frozen=True)
class Scale:
    """The middle of a design (geometric means), by which sizes and data are divided."""

    parameters: float
    seen: float
    unique: float

    @staticmethod
    def of(runs: Runs) -> Scale:
        return Scale(
            *(float(np.exp(np.log(x).mean())) for x in (runs.parameters, runs.seen, runs.unique))
        )


# Of exponents, on a grid: (exponents,) -> the terms of every run, (n, terms).
Terms = Callable[[Runs, Scale, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Law:
    """A law.

    Attributes:
        coefficients: names of the linear ones, each from zero upwards.
        exponents: names of the others, with the grid on which each is sought; the grid's ends are
            its bounds.
        varied: what the runs must differ in for it to be fitted at all.
    """

    name: str
    coefficients: tuple[str, ...]
    exponents: Mapping[str, np.ndarray]
    terms: Terms
    varied: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.coefficients, *self.exponents)

    def predict(self, runs: Runs, scale: Scale, values: np.ndarray) -> np.ndarray:
        """Args: values: in the order of `names`."""
        k = len(self.coefficients)
        return np.asarray(self.terms(runs, scale, values[k:]) @ values[:k])


EXPONENT = np.geomspace(0.03, 3.0, 25)
REPETITIONS = np.geomspace(0.5, 500.0, 13)
PENALTY = np.geomspace(0.1, 2.0, 7)


def _columns(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, axis=-1)


def _chinchilla(runs: Runs, scale: Scale, e: np.ndarray) -> np.ndarray:
    n, d = runs.parameters / scale.parameters, runs.seen / scale.seen
    return _columns(np.ones_like(n), n ** -e[0], d ** -e[1])


def _repeated(runs: Runs, scale: Scale, e: np.ndarray) -> np.ndarray:
    n = runs.parameters / scale.parameters
    worth = 1 + e[2] * -np.expm1(-(runs.epochs - 1) / e[2])
    return _columns(np.ones_like(n), n ** -e[0], (runs.unique * worth / scale.seen) ** -e[1])


def _overfit(runs: Runs, scale: Scale, e: np.ndarray) -> np.ndarray:
    n, d = runs.parameters / scale.parameters, runs.seen / scale.seen
    strain = np.maximum(runs.epochs - 1, 1e-9) * n / (runs.unique / scale.unique)
    return _columns(np.ones_like(n), n ** -e[0], d ** -e[1], strain ** e[2])


def _data(runs: Runs, scale: Scale, e: np.ndarray) -> np.ndarray:
    d = runs.seen / scale.seen
    return _columns(np.ones_like(d), d ** -e[0])


def _saturating(runs: Runs, scale: Scale, e: np.ndarray) -> np.ndarray:
    n, u = runs.parameters / scale.parameters, runs.unique / scale.unique
    return _columns(np.ones_like(n), n ** -e[0], u ** -e[1])


LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Law("data", ("E", "B"), {"b": EXPONENT}, _data, ("seen",)),
        Law(
            "chinchilla",
            ("E", "A", "B"),
            {"a": EXPONENT, "b": EXPONENT},
            _chinchilla,
            ("parameters", "seen"),
        ),
        Law(
            "repeated",
            ("E", "A", "B"),
            {"a": EXPONENT, "b": EXPONENT, "R": REPETITIONS},
            _repeated,
            ("parameters", "unique", "epochs"),
        ),
        Law(
            "overfit",
            ("E", "A", "B", "P"),
            {"a": EXPONENT, "b": EXPONENT, "c": PENALTY},
            _overfit,
            ("parameters", "unique", "epochs"),
        ),
        Law(
            "saturating",
            ("E", "A", "B"),
            {"a": EXPONENT, "b": EXPONENT},
            _saturating,
            ("parameters", "unique"),
        ),
    )
}


def law_of(name: str) -> Law:
    """Raises: InputError naming the nearest law."""
    if name not in LAWS:
        raise InputError(f"fit.laws: '{name}'{nearest(name, LAWS)} (one of {', '.join(LAWS)})")
    return LAWS[name]


def raw_coefficients(law: Law, scale: Scale, values: Mapping[str, float]) -> dict[str, float]:
    """A and B as they are usually written, for N and D themselves."""
    raw = {"E": values["E"]}
    if "A" in values:
        raw["A"] = values["A"] * scale.parameters ** values["a"]
    if "B" in values:
        raw["B"] = (
            values["B"] * (scale.unique if law.name == "saturating" else scale.seen) ** values["b"]
        )
    return raw
