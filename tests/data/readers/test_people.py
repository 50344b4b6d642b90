"""Tables of people: spellings, several rows a person, ages in bands and months."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcm_scale.data.readers.people import read_people
from lcm_scale.errors import InputError


def test_several_rows_of_a_person_are_one_person(write_csv, tmp_path) -> None:
    table = write_csv(
        tmp_path / "people.csv",
        [
            {"Subject": "50002", "Sex": "M", "Age": "", "Modality": "fMRI"},
            {"Subject": "0050002", "Sex": "", "Age": "17", "Modality": "MRI"},
        ],
    )
    people = read_people(table, "years")
    (entry,) = people.entries.values()
    assert (entry.person.sex, entry.person.age) == ("M", 17.0)
    assert entry.person.labels["Modality"] == "fMRI"
    assert people.of("sub-50002") is entry


@pytest.mark.parametrize(("column", "values"), [("Sex", ("M", "F")), ("Age", ("17", "18"))])
def test_rows_of_a_person_that_contradict_each_other_are_named(
    column: str, values: tuple[str, str], write_csv, tmp_path
) -> None:
    rows = [{"Subject": 1, "Sex": "M", "Age": "17"} | {column: value} for value in values]
    table = write_csv(tmp_path / "people.csv", rows)
    with pytest.raises(InputError, match=r"people\.csv, row 3: subject 1 has two .*row 2"):
        read_people(table, "years")


@pytest.mark.parametrize(
    ("cell", "unit", "age"),
    [("36-40", "years", 38.0), ("17.5", "years", 17.5), ("480", "months", 40.0)],
)
def test_ages_are_years_whatever_the_table_has(
    cell: str, unit: str, age: float, write_csv, tmp_path
) -> None:
    table = write_csv(tmp_path / "people.csv", [{"participant_id": "sub-1", "age": cell}])
    assert read_people(table, unit).of("1").person.age == age


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"subject": "1", "age": "480"}, "age is '480' .*source.age_unit=months"),
        ({"subject": "1", "age": "old"}, r"row 2: age is 'old', expected a number or a band"),
        ({"subject": "", "age": "4"}, "row 2: subject is empty"),
        ({"name": "x"}, "no column of subjects"),
    ],
)
def test_a_cell_that_cannot_be_meant_is_named(
    row: dict[str, str], message: str, write_csv, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        read_people(write_csv(tmp_path / "people.csv", [row]), "years")
