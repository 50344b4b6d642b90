"""Shard sets opened together: one numbering, one vocabulary, one order of regions, one number a
person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcm_scale.atlas import load_atlas
from lcm_scale.config import ConnectivityConfig, DataConfig, GroupConfig
from lcm_scale.data.audit import audit
from lcm_scale.data.manifest import read_manifest
from lcm_scale.data.sets import ShardSets, open_sets, split_subjects
from lcm_scale.data.stream import ResidentEdges
from lcm_scale.errors import InputError
from lcm_scale.vocabulary import Vocabulary, group, scalar

ORDER = [3, 0, 5, 1, 4, 2]
INDICES = [i + 1 for i in ORDER]


def opened(*names: str, **keys: object) -> ShardSets:
    config = DataConfig(sets=list(names), shards_dir="shards", **keys)  # type: ignore[arg-type]
    return open_sets(config)


def test_sets_are_numbered_through_in_the_order_of_the_recipe(tiny_set) -> None:
    tiny_set("a", people=3, runs=2)
    tiny_set("b", people=4, first=11)
    sets = opened("b", "a")
    assert (sets.n_scans, sets.names) == (10, ("b", "a"))
    assert sets.set_number.tolist() == [0] * 4 + [1] * 6
    assert sets.labels[:, sets.vocabulary.names.index("age")].tolist() == [
        31,
        32,
        33,
        34,
        21,
        21,
        22,
        22,
        23,
        23,
    ]
    assert sets.subject.tolist() == [0, 1, 2, 3, 4, 4, 5, 5, 6, 6]
    assert sets.scans_of(["a"]).tolist() == [4, 5, 6, 7, 8, 9]
    assert sets.scans_of([]).tolist() == list(range(10))


def test_a_set_may_be_named_by_its_path(tiny_set, tmp_path) -> None:
    folder = tiny_set("a")
    folder.rename(tmp_path / "elsewhere")
    assert open_sets(DataConfig(sets=[str(tmp_path / "elsewhere")])).names == ("a",)


def test_a_person_in_two_sets_of_a_cohort_has_one_number(tiny_set) -> None:
    tiny_set("a", people=4, cohort="Study")
    tiny_set("b", people=4, first=3, cohort="study")
    sets = opened("a", "b")
    assert sets.subject.tolist() == [0, 1, 2, 3, 2, 3, 4, 5]
    assert (len(sets.subjects), sets.subject_ranks.tolist()) == (6, [0, 1, 2, 3, 2, 3])
    assert sets.subject_hashes(np.array([2, 4])) == [sets.subjects[2]]


def test_equal_ids_of_two_cohorts_are_two_people(tiny_set) -> None:
    tiny_set("a", people=4)
    tiny_set("b", people=4)
    assert len(opened("a", "b").subjects) == 8


def test_sets_of_two_salts_are_refused_together(tiny_set, monkeypatch, tmp_path) -> None:
    tiny_set("a", people=4, cohort="x")
    monkeypatch.setenv("LCM_SALT_FILE", str(tmp_path / "other"))
    tiny_set("b", people=4, cohort="x")
    assert not set(opened("a").subjects) & set(opened("b").subjects)
    with pytest.raises(InputError, match=r"a, b were hashed with different salts"):
        opened("a", "b")


def test_regions_of_every_set_are_brought_into_the_first_ones_order(tiny_set, atlas_file) -> None:
    tiny_set("a", people=4, cohort="x", dtype="float32")
    tiny_set("b", people=4, cohort="x", dtype="float32", order=ORDER, atlas=atlas_file(INDICES))
    for names in (("a", "b"), ("b", "a")):
        sets = opened(*names)
        edges = ResidentEdges(sets).edges
        assert np.array_equal(edges[:4], edges[4:])
        assert sets.atlas == read_manifest(Path("shards") / names[0]).atlas
    assert sets.edge_orders[0] is None and sets.edge_orders[1] is not None


def test_a_checkpoints_order_is_kept_to_unless_the_recipe_says_so(tiny_set, atlas_file) -> None:
    tiny_set("a", people=4, cohort="x")
    tiny_set("b", people=4, cohort="x", order=ORDER, atlas=atlas_file(INDICES))
    atlas = read_manifest(Path("shards/a")).atlas
    config = DataConfig(sets=["b"], shards_dir="shards")
    with pytest.raises(InputError, match=r"set b: .*another order.*data\.reorder=true"):
        open_sets(config, atlas)
    config.reorder = True
    edges = ResidentEdges(open_sets(config, atlas)).edges
    assert np.array_equal(edges, ResidentEdges(opened("a")).edges)


def test_another_atlas_is_refused_whatever_the_recipe_says(tiny_set, atlas_file) -> None:
    tiny_set("a", people=4)
    tiny_set("b", people=4, atlas=atlas_file([1, 2, 3, 4, 5, 7]))
    for keys in ({}, {"reorder": True}):
        with pytest.raises(InputError, match="only data of one atlas can be mixed"):
            opened("a", "b", **keys)
    with pytest.raises(InputError, match="only data of one atlas can be mixed"):
        open_sets(DataConfig(sets=["a"], reorder=True), load_atlas("aal116"))


def test_labels_of_all_sets_are_in_one_vocabulary(tiny_set) -> None:
    tiny_set("a", people=4, labels=["CN", "PD"])
    tiny_set(
        "b",
        people=4,
        labels=["CN", "PD", "SWEDD"],
        groups=[GroupConfig("diagnosis"), GroupConfig("site", merge=False)],
    )
    sets = opened("a", "b")
    assert sets.vocabulary.names == ("diagnosis", "site", "sex", "age")
    words = [sets.vocabulary["diagnosis"].categories[int(c)] for c in sets.labels[:, 0]]
    assert words == ["PD", "CN", "PD", "CN", "PD", "SWEDD", "CN", "PD"]
    assert sets.labels[:, 1].tolist() == [0, 0, 0, 0, 2, 1, 2, 1]  # N/A, then north and south


def test_targets_may_be_chosen_and_na_left_out(tiny_set) -> None:
    tiny_set("a", people=4)
    sets = opened("a", targets=["diagnosis"], not_applicable=False)
    assert sets.vocabulary.names == ("diagnosis",)
    assert sets.vocabulary["diagnosis"].categories == ("Autism", "CN")
    assert sets.labels.tolist() == [[0], [1], [0], [1]]


def test_a_checkpoints_targets_stand_first_and_all_stay(tiny_set) -> None:
    tiny_set("a", people=4)
    before = Vocabulary((group("task", ["rest", "face"], default="rest"), scalar("iq")))
    sets = open_sets(DataConfig(sets=["a"]), pretrained=("old", before))
    assert sets.vocabulary.names == ("task", "diagnosis", "sex", "iq", "age")
    assert sets.pretrained_renames == {"task": "task", "iq": "iq"}
    assert sets.labels[0, 0] == 1 and np.isnan(sets.labels[0, 3])


def test_sites_are_one_list_and_an_unknown_one_stays_unknown(tiny_set, tiny_recipe) -> None:
    from lcm_scale.data.shards import write_shards

    tiny_set("a", people=2)
    made = tiny_recipe("b", people=3)
    table = Path(made.source.table or "")
    table.write_text(table.read_text().replace("north", "").replace("south", "zurich", 1))
    write_shards(made)
    sets = opened("b", "a")
    assert sets.sites == ("north", "south", "zurich")
    assert sets.site.tolist() == [2, -1, 1, 1, 0]


@pytest.mark.parametrize(
    ("names", "keys", "message"),
    [
        (["tiiny"], {}, r"data\.sets: no shards in .*tiiny, did you mean 'tiny'\? \(there: tiny\)"),
        ([], {}, r"data\.sets is empty"),
        (["tiny", "tiny"], {}, "a set is named twice"),
        (
            ["tiny"],
            {"targets": ["diagnosys"]},
            r"no set has a target 'diagnosys', did you mean 'diagnosis'\?",
        ),
    ],
)
def test_what_the_recipe_names_and_is_not_there_is_said(
    names: list[str], keys: dict, message: str, tiny_set
) -> None:
    tiny_set()
    with pytest.raises(InputError, match=message):
        opened(*names, **keys)


def test_scans_of_an_unknown_set_are_refused(tiny_set) -> None:
    tiny_set()
    with pytest.raises(InputError, match=r"set 'tin' is not in data\.sets"):
        opened("tiny").scans_of(["tin"])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 0.5])
def test_a_split_parts_people_and_never_one_persons_scans(share: float, tiny_set) -> None:
    tiny_set("a", people=12, runs=3)
    sets = opened("a")
    scans = np.arange(3, 36)
    train, held = split_subjects(sets, scans, share, seed=1)
    assert np.array_equal(np.sort(np.concatenate([train, held])), scans)
    assert not set(sets.subject[train]) & set(sets.subject[held])
    assert len(set(sets.subject[held])) == (0 if share == 0 else max(1, round(share * 11)))


def test_a_split_follows_the_people_and_the_seed_not_their_order(tiny_set) -> None:
    tiny_set("a", people=12, cohort="x")
    tiny_set("b", people=5, cohort="y")
    alone, mixed = opened("a"), opened("b", "a")
    _, held = split_subjects(alone, np.arange(12), 0.25, seed=1)
    _, same = split_subjects(mixed, np.arange(5, 17), 0.25, seed=1)
    assert alone.subject_hashes(held) == mixed.subject_hashes(same)
    others = [split_subjects(alone, np.arange(12), 0.25, seed)[1].tolist() for seed in range(2, 8)]
    assert any(other != held.tolist() for other in others)


def test_the_audit_of_a_mix_counts_own_labels_defaults_and_what_is_missing(
    tiny_set, tmp_path
) -> None:
    group_of = {"groups": [GroupConfig("diagnosis", labels=["CN", "Autism"])]}
    tiny_set("a", people=6, **group_of)
    tiny_set("b", people=4, first=20, age=False, groups=[GroupConfig("place", "site")])
    said = audit(opened("a", "b"))
    assert said["set a"] == "6 scans of 6 people, pearson"
    assert said["together"] == "10 scans of 10 people, 9 tokens"
    assert said["target diagnosis"] == "3 tokens: CN 3, Autism 3; N/A by default 4 (b)"
    assert said["target place"] == "3 tokens: north 2, south 2; N/A by default 6 (a)"
    assert said["target sex"] == "2 tokens: M 5, F 5"
    assert said["target age"] == "1 token: 6 known; no label 4"


def test_sets_of_two_kinds_are_mixed_only_where_the_recipe_says_so(tiny_set) -> None:
    tiny_set("a", people=3)
    tiny_set("b", people=3, first=11, connectivity=ConnectivityConfig(kind="ledoit-wolf"))
    with pytest.raises(InputError, match=r"a holds pearson matrices, b ledoit-wolf .*mix_kinds"):
        opened("a", "b")
    sets = opened("a", "b", mix_kinds=True)
    assert sets.kinds_of(np.arange(6)) == ("pearson", "ledoit-wolf")
    assert sets.kinds_of(np.array([4])) == ("ledoit-wolf",)
    assert opened("b").kinds_of(np.arange(3)) == ("ledoit-wolf",)


def test_two_lags_are_two_kinds(tiny_set) -> None:
    for name, lag in (("a", 1), ("b", 2)):
        tiny_set(name, people=2, connectivity=ConnectivityConfig(kind="lagged", lag=lag))
    with pytest.raises(InputError, match="a holds lagged by 1 matrices, b lagged by 2 ones"):
        opened("a", "b")


def test_covariances_have_no_fisher_z(tiny_set) -> None:
    tiny_set("a", people=2, connectivity=ConnectivityConfig(kind="covariance"))
    with pytest.raises(InputError, match=r"data\.edges=fisher_z: set a holds covariances"):
        opened("a", edges="fisher_z")


def test_windows_of_a_scan_have_one_number_over_all_sets(tiny_set) -> None:
    tiny_set("a", people=2)
    tiny_set("b", people=2, connectivity=ConnectivityConfig(window=20, min_volumes=20))
    assert opened("a", "b").scan.tolist() == [0, 1, 2, 2, 3, 3]
    assert opened("b", "a").scan.tolist() == [0, 0, 1, 1, 4, 5]
