"""The HDF5 store: appended block by block, read back as it was."""

from __future__ import annotations

import math
from dataclasses import replace

import h5py
import numpy as np
import pytest

from lcm_scale.data import store
from lcm_scale.data.store import ScanFacts
from lcm_scale.errors import InputError

FACT = ScanFacts("s", "p", "1", "", "Zürich", 0, 40, math.nan, 21.5, "F", math.nan, 2)


def test_what_is_appended_in_parts_is_read_in_one(tmp_path) -> None:
    path = tmp_path / "a.h5"
    store.create(path, 3, "float32", ["dx", "hand"], {"name": "a"})
    triangles = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    for part in (slice(0, 2), slice(2, 5)):
        n = len(triangles[part])
        store.append(
            path,
            triangles[part],
            [replace(FACT, window=part.start)] * n,
            [{"dx": "CN", "hand": None}] * n,
        )
    with h5py.File(path) as file:
        content = store.read(file)
        assert np.array_equal(content.fc[:], triangles)
        assert [fact.window for fact in content.facts] == [0, 0, 2, 2, 2]
        assert content.labels == {"dx": ["CN"] * 5, "hand": [None] * 5}
        assert content.provenance == {"name": "a"}
    fact = content.facts[0]
    assert (fact.site, fact.age, fact.sex, fact.constant_regions) == ("Zürich", 21.5, "F", 2)
    assert math.isnan(fact.tr) and math.isnan(fact.mean_fd)


def test_a_file_that_is_no_store_is_refused(tmp_path) -> None:
    with (
        h5py.File(tmp_path / "b.h5", "w") as file,
        pytest.raises(InputError, match=r"b\.h5: not a store"),
    ):
        store.read(file)
