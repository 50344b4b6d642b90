"""Laws as functions: terms, units and names."""

from __future__ import annotations

import numpy as np
import pytest

from lcm_scale.errors import InputError
from lcm_scale.laws.laws import LAWS, Runs, Scale, law_of, raw_coefficients


def runs(parameters: float = 1e6, people: float = 100, epochs: float = 1) -> Runs:
    one = np.ones(1)
    return Runs(
        one, one * parameters, one * people * epochs, one * people, one * epochs, np.zeros(1, int)
    )


SCALE = Scale(parameters=1e6, seen=100, unique=100)


def value(name: str, of: Runs, **values: float) -> float:
    law = LAWS[name]
    return float(law.predict(of, SCALE, np.array([values[n] for n in law.names]))[0])


@pytest.mark.parametrize("name", ["chinchilla", "repeated", "overfit", "saturating", "data"])
def test_in_the_middle_of_the_design_a_coefficient_is_what_its_term_adds(name: str) -> None:
    values = {"E": 0.5, "A": 0.1, "B": 0.2, "P": 0.0, "a": 0.3, "b": 0.4, "R": 15.0, "c": 0.5}
    assert value(name, runs(), **values) == pytest.approx(0.7 if name == "data" else 0.8)


def test_one_epoch_of_repeated_data_is_chinchillas_law() -> None:
    shared = {"E": 0.5, "A": 0.1, "B": 0.2, "a": 0.3, "b": 0.4}
    assert value("repeated", runs(people=300), **shared, R=15.0) == pytest.approx(
        value("chinchilla", runs(people=300), **shared)
    )


def test_repetitions_are_worth_less_and_less() -> None:
    shared = {"E": 0.0, "A": 0.0, "B": 1.0, "a": 0.3, "b": 1.0, "R": 5.0}
    worth = [1 / value("repeated", runs(epochs=e), **shared) for e in (1, 2, 6, 1000)]
    assert worth == sorted(worth)
    assert worth[1] == pytest.approx(2, abs=0.1)
    assert worth[3] == pytest.approx(1 + 5.0)  # no more than R new passes, however often


def test_overfitting_adds_nothing_in_the_first_epoch_and_grows_with_size_over_people() -> None:
    only = {"E": 0.0, "A": 0.0, "B": 0.0, "P": 1.0, "a": 0.3, "b": 0.3, "c": 0.5}
    assert value("overfit", runs(), **only) < 1e-3
    assert value("overfit", runs(epochs=5, parameters=4e6), **only) == pytest.approx(
        2 * value("overfit", runs(epochs=5), **only)
    )


def test_raw_coefficients_give_the_same_loss_with_undivided_sizes() -> None:
    values = {"E": 0.5, "A": 0.1, "B": 0.2, "a": 0.3, "b": 0.4}
    raw = raw_coefficients(LAWS["chinchilla"], SCALE, values)
    of = runs(parameters=3e7, people=900, epochs=4)
    assert raw["E"] + raw["A"] / 3e7**0.3 + raw["B"] / 3600**0.4 == pytest.approx(
        value("chinchilla", of, **values)
    )


def test_an_unknown_law_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'chinchilla'"):
        law_of("chinchila")
