"""What a model is told of scans beside their matrices, found by name in open sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.config import DataConfig
from lcm_scale.data.given import check_names, given, given_to, known_names
from lcm_scale.data.sets import ShardSets, open_sets
from lcm_scale.errors import InputError
from lcm_scale.linear.context import KnownColumn


@pytest.fixture(scope="module")
def sets(world: Path) -> ShardSets:
    config = DataConfig(sets=["first"], shards_dir=f"{world}/shards", targets=["age"])
    opened = open_sets(config)
    named = np.arange(opened.n_scans) % 2
    return replace(opened, sites=("a", "b"), site=named)


def test_site_targets_and_what_nobody_is_asked_for_are_known(sets: ShardSets) -> None:
    assert known_names(sets)[:2] == ["site", "age"] and "diagnosis" in known_names(sets)
    scans = np.arange(0, sets.n_scans, 3)
    found = given(["site", "diagnosis", "age"], sets, scans)
    site, diagnosis, age = found.columns
    assert site.categories == sets.sites and not age.categories
    assert np.array_equal(found.values[:, 0], sets.site[scans])
    whole = open_sets(DataConfig(sets=["first"], shards_dir=str(sets.folders[0].parent)))
    labels = whole.labels[scans, whole.vocabulary.names.index("diagnosis")]
    na = whole.vocabulary["diagnosis"].categories.index("N/A")
    labels = np.where(labels == na, np.nan, labels)
    assert diagnosis.categories == whole.vocabulary["diagnosis"].categories
    assert np.array_equal(found.values[:, 1], labels, equal_nan=True)
    assert np.array_equal(found.values[:, 2], sets.labels[scans, 0], equal_nan=True)


def test_a_number_that_nobody_is_asked_for_stays_a_number(world: Path) -> None:
    shards = f"{world}/shards"
    few = open_sets(DataConfig(sets=["first"], shards_dir=shards, targets=["diagnosis"]))
    whole = open_sets(DataConfig(sets=["first"], shards_dir=shards))
    found = given(["age"], few, np.arange(few.n_scans))
    assert found.columns[0].categories == ()
    ages = whole.labels[:, whole.vocabulary.names.index("age")]
    assert np.array_equal(found.values[:, 0], ages, equal_nan=True) and np.nanmax(ages) > 1


def test_a_model_is_told_in_its_own_codes(sets: ShardSets) -> None:
    scans = np.arange(sets.n_scans)
    columns = (KnownColumn("scanner", ("x",)), KnownColumn("site", ("b", "elsewhere", "a")))
    told = given_to(columns, sets, scans)
    assert np.isnan(told[:, 0]).all(), "the set does not say it"
    assert np.array_equal(told[:, 1], np.where(sets.site == 1, 0, 2))
    assert np.isnan(given_to((KnownColumn("age", ("old",)),), sets, scans)).all()


def test_a_name_that_is_not_there_is_told_with_the_nearest(sets: ShardSets) -> None:
    with pytest.raises(InputError, match=r"'sit', did you mean 'site'\? \(there: site, age"):
        check_names(["sit"], sets)
    with pytest.raises(InputError, match="nothing is known as 'site'"):
        check_names(["site"], replace(sets, sites=()))
