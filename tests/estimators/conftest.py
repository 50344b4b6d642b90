"""Simulated people whose group and age their series tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

REGIONS = 8


@dataclass(frozen=True)
class People:
    """Attributes: series: n arrays (T_i, R).   fc: (n, R, R).   group, age, person: (n,)."""

    series: list[np.ndarray]
    fc: np.ndarray
    group: np.ndarray
    age: np.ndarray
    person: np.ndarray


@pytest.fixture(scope="session")
def people() -> People:
    """30 people with 2 scans each, of 50 to 69 volumes."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(30), 2)
    group = np.array(["CN", "SZ"])[person % 2]
    age = 20.0 + 2 * person
    series = []
    for number, own in enumerate(person):
        found = rng.normal(size=(50 + number % 20, REGIONS))
        found += 0.7 * rng.normal(size=(len(found), 1))
        found[:, :4] += (own % 2) * 1.5 * rng.normal(size=(len(found), 1))
        found[:, 4:] += own / 15 * rng.normal(size=(len(found), 1))
        series.append(found)
    fc = np.stack([np.corrcoef(each.T) for each in series])
    return People(series, fc, group, age, person)
