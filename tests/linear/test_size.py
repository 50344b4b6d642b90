"""What fitting takes is known before, and bounded."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from lcm_scale.linear import size
from lcm_scale.linear.memory import Asked, fit_memory


def test_from_few_scans_on_all_meet_all_and_no_number_of_scans_takes_too_much() -> None:
    assert size.landmarks_of(size.MOST_SCANS) is None
    assert size.landmarks_of(size.MOST_SCANS + 1) == size.LANDMARKS
    for scans in (100_000, 1_000_000, 10_000_000):
        landmarks = size.landmarks_of(scans)
        assert landmarks is not None and 8 * landmarks * scans <= size.LARGEST_PRODUCTS


@pytest.mark.parametrize("most", [None, 150])
def test_it_takes_about_as_much_as_was_said(
    most: int | None, correlations: Callable[..., np.ndarray]
) -> None:
    edges = correlations(900)
    asked = {"age": Asked(edges[:, 0] * 9 + 40, 0)}
    tracemalloc.start()
    fit_memory(edges, np.arange(900), asked, 0, None, None, most)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = size.memory_bytes(900, 12, most) - edges.nbytes
    assert said / 3 < peak < said
