"""Who is in the data twice, by the matrices: the same scan under two ids, in one set or in two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from lcm_scale.data import fingerprints
from lcm_scale.data.compare import compare
from lcm_scale.data.fingerprints import Scans, alike_across, alike_within
from lcm_scale.data.shards import write_shards

REGIONS = 32
EDGES = REGIONS * (REGIONS - 1) // 2


def scans(edges: np.ndarray, people: Sequence[str]) -> Scans:
    """In blocks of three."""

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(edges), 3):
            yield edges[start : start + 3].astype(np.float16)

    return Scans(blocks, people)


@pytest.fixture
def everybody() -> np.ndarray:
    """(40, E) edges: a mean that all share, and a person's own."""
    rng = np.random.default_rng(0)
    return 0.3 + 0.1 * rng.standard_normal(EDGES) + 0.1 * rng.standard_normal((40, EDGES))


def processed_otherwise(edges: np.ndarray, seed: int) -> np.ndarray:
    """Another mean, shrunk, and so much noise that the same scan correlates by about .55."""
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal(EDGES) + 0.7 * edges + 0.1 * rng.standard_normal(edges.shape)


def ids(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i:02d}" for i in range(n)]


def test_the_same_scan_under_two_ids_is_found_and_nobody_else(everybody) -> None:
    rng = np.random.default_rng(1)
    everybody[17] = everybody[4] + 0.03 * rng.standard_normal(EDGES)
    (pair,) = alike_within(scans(everybody, ids("p", 40)))
    assert (pair.first, pair.second) == ("p04", "p17")
    assert 0.9 < pair.r < 1


def test_two_scans_of_one_person_may_be_alike(everybody) -> None:
    everybody[5] = everybody[4]
    people = ids("p", 40)
    people[5] = people[4]
    assert alike_within(scans(everybody, people)) == []


def test_few_regions_tell_nobody_apart(everybody) -> None:
    few = everybody[:, :15]
    few[3] = few[2]
    assert alike_within(scans(few, ids("p", 40))) is None
    assert alike_across(scans(few, ids("a", 40)), scans(few, ids("b", 40))) is None


def test_people_of_two_sets_are_matched_whatever_the_processing(everybody) -> None:
    other = processed_otherwise(everybody[20:], 2)
    pairs = alike_across(scans(everybody[:30], ids("a", 30)), scans(other, ids("b", 20)))
    assert {(p.first, p.second) for p in pairs} == {(f"a{20 + i}", f"b{i:02d}") for i in range(10)}


def test_strangers_are_not_matched(everybody) -> None:
    other = processed_otherwise(everybody[20:], 2)
    assert alike_across(scans(everybody[:20], ids("a", 20)), scans(other, ids("b", 20))) == []


def test_of_a_few_people_only_near_copies_are_named(everybody) -> None:
    other = processed_otherwise(everybody[:5], 2)
    assert alike_across(scans(everybody, ids("a", 40)), scans(other, ids("b", 5))) == []
    (pair,) = alike_across(scans(everybody[:5], ids("a", 5)), scans(everybody[4:9], ids("b", 5)))
    assert (pair.first, pair.second) == ("a04", "b00")


def test_people_of_one_id_are_not_named(everybody) -> None:
    other = processed_otherwise(everybody, 2)
    assert alike_across(scans(everybody, ids("p", 40)), scans(other, ids("p", 40))) == []


def test_blocks_of_people_change_nothing(everybody, monkeypatch) -> None:
    other = processed_otherwise(everybody[20:], 2)
    a, b = scans(everybody[:30], ids("a", 30)), scans(other, ids("b", 20))
    whole = alike_across(a, b)
    monkeypatch.setattr(fingerprints, "BLOCK", 7)
    pieces = alike_across(a, b)
    assert [(p.first, p.second) for p in pieces] == [(p.first, p.second) for p in whole]
    assert [p.r for p in pieces] == pytest.approx([p.r for p in whole], abs=1e-5)


def test_projected_fingerprints_still_find_a_copy_and_name_no_stranger(
    everybody, monkeypatch
) -> None:
    monkeypatch.setattr(fingerprints, "LEAST_DIRECTIONS", 128)
    monkeypatch.setattr(fingerprints, "MOST_PRODUCTS", 128 * 40 * 40)
    everybody[17] = everybody[4]
    (pair,) = alike_within(scans(everybody, ids("p", 40)), 128 * 40 * 40)
    assert (pair.first, pair.second) == ("p04", "p17")
    other = processed_otherwise(everybody[20:], 2)
    assert alike_across(scans(everybody[:17], ids("a", 17)), scans(other, ids("b", 20))) == []


def test_too_many_scans_for_the_time_are_not_compared(everybody) -> None:
    everybody[17] = everybody[4]
    assert alike_within(scans(everybody, ids("p", 40)), 10 * 40 * 40) is None


@pytest.fixture
def lab(tmp_path: Path, write_csv, recipe):
    """`lab("a", people, seeds)`: a shard set of 32 regions, a person's series by her seed."""

    def write(name: str, people: Sequence[str], seeds: Sequence[int], **keys) -> Path:
        rows = []
        for person, seed in zip(people, seeds, strict=True):
            file = tmp_path / name / f"{person}.npy"
            file.parent.mkdir(exist_ok=True)
            rng = np.random.default_rng(seed)
            mixing = rng.standard_normal((REGIONS, REGIONS))
            # A little of each file's own, so that no two are equal to the last bit.
            own = np.random.default_rng(len(rows)).standard_normal((200, REGIONS))
            np.save(file, rng.standard_normal((200, REGIONS)) @ mixing + 0.1 * own)
            rows.append({"file": file.name, "subject": person, "sex": "M", "site": "north"})
        table = write_csv(tmp_path / name / "table.csv", rows)
        made = recipe(name=name, reader="table", table=table, groups=[], **keys)
        made.atlas = f"x:{REGIONS}"
        write_shards(made)
        return tmp_path / "shards" / name

    return write


def test_sharding_names_the_people_on_the_terminal_and_counts_them_in_the_manifest(
    lab, capsys
) -> None:
    from lcm_scale.data.manifest import read_manifest

    folder = lab("a", ["1", "2", "3", "9"], [1, 2, 3, 2])
    assert "probably one person under two ids: 2 and 9" in capsys.readouterr().err
    manifest = read_manifest(folder)
    assert manifest.quality["pairs of people with nearly the same scan"] == 1
    assert any("probably one person under two ids: 1 (" in note for note in manifest.notes)


def test_two_sets_are_compared_by_id_and_by_matrix(lab) -> None:
    first = lab("a", ["1", "2", "3"], [1, 2, 3], cohort="one")
    same = lab("b", ["0002", "sub-3", "4"], [2, 3, 4], cohort="one")
    other = lab("c", ["77", "78", "79"], [3, 78, 79], cohort="other")
    said = compare(first, same)
    assert said["in both by id"] == "2"
    assert said["in both by their matrices, under two ids"] == "nobody"
    said = compare(first, other)
    assert said["in both by id"] == "0"
    assert said["in both by their matrices, under two ids"].startswith("1 pair: ")
    assert "(north, scan 2)" in said["in both by their matrices, under two ids"]
    assert compare(first, None) == {f"in {first}": "nobody"}


def test_a_set_of_few_regions_is_not_called_free_of_duplicates(tiny_set) -> None:
    folder = tiny_set("small")
    assert compare(folder, None)[f"in {folder}"].startswith("not compared: fewer than 30 regions")
