"""What tables and names say of all people together: what cannot be, what must be said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lcm_scale.atlas import load_atlas
from lcm_scale.config import GroupConfig, ScalarConfig, ShardRecipe
from lcm_scale.data.collect import list_scans
from lcm_scale.data.shards import write_shards
from lcm_scale.errors import InputError


@pytest.fixture
def listed(tmp_path, bold, write_csv, recipe) -> Callable[..., ShardRecipe]:
    """`listed([{"subject": 1, "dx": "CN"}], groups=[...])`: a file a row."""

    def make(rows: list[dict[str, Any]], **keys: Any) -> ShardRecipe:
        for i in range(len(rows)):
            np.save(tmp_path / f"{i}.npy", bold(i))
        rows = [{"file": f"{i}.npy"} | row for i, row in enumerate(rows)]
        table = write_csv(tmp_path / "scans.csv", rows)
        return recipe(reader="table", table=table, **{"groups": [], **keys})

    return make


def odd(made: ShardRecipe) -> dict[str, list[str]]:
    return list_scans(made, load_atlas(made.atlas)).odd


def people(column: str, cells: list[str]) -> list[dict[str, Any]]:
    return [{"subject": i, column: cell} for i, cell in enumerate(cells)]


def visits(**columns: list[Any]) -> list[dict[str, Any]]:
    """Sessions 1, 2 ... of one person."""
    rows = zip(*columns.values(), strict=True)
    return [
        {"subject": "P1", "session": i} | dict(zip(columns, row, strict=True))
        for i, row in enumerate(rows, 1)
    ]


def test_ids_that_two_sites_use_are_said_to_be_perhaps_different_people(listed) -> None:
    rows = [
        {"subject": s, "site": site, "sex": sex}
        for s, site, sex in [("01", "A", "M"), ("1", "B", "F")]
    ]
    with pytest.raises(InputError, match=r"unique, as in A_01: they differ in site \(A, B\), sex"):
        odd(listed(rows))
    for row in rows:
        row["session"] = row["site"]
    with pytest.raises(InputError, match=r"rows 2 and 3 are both 1 and differ in sex \(M, F\)"):
        odd(listed(rows))
    ((note, examples),) = odd(listed([row | {"sex": "M"} for row in rows])).items()
    assert "1 people have scans at more than one site" in note and "as in A_01" in note
    assert "01" not in note.replace("A_01", "") and examples == ["01 (A, B)"]


@pytest.mark.parametrize(
    ("ages", "message"),
    [([20, 21.5], None), ([20, 60], r"differ in age \(20, 60\)"), ([40, 35], "younger")],
)
def test_ages_may_grow_from_session_to_session(ages, message, listed) -> None:
    made = listed(visits(age=ages))
    if message and "differ" in message:
        with pytest.raises(InputError, match=message):
            odd(made)
    else:
        assert [message in note for note in odd(made)] == ([True] if message else [])


def test_in_one_session_a_person_has_one_age(listed) -> None:
    rows = [{"subject": 1, "run": run, "age": 20 + 5 * run} for run in (1, 2)]
    with pytest.raises(InputError, match="rows 2 and 3 are both 1 and differ in age"):
        odd(listed(rows))


def test_a_diagnosis_that_changes_is_said_and_a_state_that_does_is_not(listed) -> None:
    rows = [
        {"subject": p, "session": s, "dx": "AD" if p == s == 2 else "CN", "eyes": f"e{s}"}
        for p in range(3)
        for s in (1, 2)
    ]
    manifest = write_shards(listed(rows, groups=[GroupConfig("dx"), GroupConfig("eyes")]))
    assert manifest.notes == (
        "Group 'dx' changes between the scans of 1 of 3 people with several.",
    )


@pytest.mark.parametrize(
    ("cells", "listed_as"),
    [
        (["CN", "cn", "SZ", "CN "], "CN (2) and cn (1)"),
        (["early MCI", "earlyMCI", "CN"], "early MCI (1) and earlyMCI (1)"),
        (["1", "1.0", "2"], "1 (1) and 1.0 (1)"),
        (["01", "1", "2"], "01 (1) and 1 (1)"),
    ],
)
def test_classes_that_differ_by_spelling_are_said_and_kept_apart(cells, listed_as, listed) -> None:
    (note,) = odd(listed(people("dx", cells), groups=[GroupConfig("dx")]))
    assert listed_as in note and "a map in the recipe" in note


@pytest.mark.parametrize(
    "cells",
    [
        [str(90 + i) for i in range(12)],
        [str(i / 2) for i in range(9)] * 3,
        [str(i) for i in range(31)] * 3,
        [f"name{i}" for i in range(12)],
    ],
    ids=["one a person", "fractions", "many", "words"],
)
def test_a_group_that_is_a_score_is_refused(cells: list[str], listed) -> None:
    made = listed(people("fiq", cells), groups=[GroupConfig("fiq")])
    with pytest.raises(InputError, match=r"group 'fiq': fiq has \d+ values among \d+ people"):
        odd(made)
    made.groups[0].labels = list(dict.fromkeys(cells))
    odd(made)


def test_the_advice_for_a_score_works(listed) -> None:
    made = listed(
        people("FIQ", [str(90 + i) for i in range(12)]), groups=[GroupConfig("iq", "FIQ")]
    )
    with pytest.raises(InputError, match=r"scalars: \[\{name: iq, column: FIQ\}\]"):
        odd(made)
    made.groups, made.scalars = [], [ScalarConfig("iq", "FIQ")]
    assert write_shards(made).vocabulary.names == ("iq",)


def test_classes_by_number_stay_classes(listed) -> None:
    assert odd(listed(people("dx", ["1", "2"] * 6), groups=[GroupConfig("dx")])) == {}


def test_a_column_is_found_in_any_case_and_two_are_a_question(listed) -> None:
    made = listed(people("Diagnosis", ["CN", "SZ"]), groups=[GroupConfig("diagnosis")])
    assert write_shards(made).vocabulary["diagnosis"].labels == ("CN", "SZ")
    rows = [row | {"DIAGNOSIS": "x"} for row in people("Diagnosis", ["CN", "SZ"])]
    with pytest.raises(InputError, match="Diagnosis and DIAGNOSIS could both be the 'diagnosis'"):
        odd(listed(rows, groups=[GroupConfig("diagnosis")]))


def test_numbers_are_the_recipes_classes_however_they_are_written(listed) -> None:
    made = listed(people("dx", ["1.0", "02", "1"]), groups=[GroupConfig("dx", labels=["1", "2"])])
    assert [labels["dx"] for labels in list_scans(made, load_atlas(made.atlas)).labels] == list(
        "121"
    )


def test_a_label_of_another_case_is_suggested(listed) -> None:
    made = listed(people("dx", ["cn"]), groups=[GroupConfig("dx", labels=["CN", "SZ"])])
    with pytest.raises(InputError, match=r"scans\.csv, row 2: dx is 'cn', did you mean 'CN'\?"):
        odd(made)


def test_open_ages_are_said_in_every_report(listed) -> None:
    manifest = write_shards(listed(people("age", ["90+", "90+", "40"])))
    (note,) = manifest.notes
    assert note.startswith("2 of 3 scans: ") and "'90+'" in note
