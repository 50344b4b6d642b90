"""Tables of people, in every reader that takes one: columns and words as people write them, rows
that contradict each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from lcm_scale.config import ShardRecipe, SourceConfig
from lcm_scale.data.readers.people import People, check_people, read_people
from lcm_scale.data.recordings import Recording
from lcm_scale.errors import InputError

READERS = ["table", "names", "mat", "auckland", "abide"]
OWN_COLUMNS = {"subject": "SUB_ID", "age": "AGE_AT_SCAN", "sex": "SEX", "dx": "DX_GROUP"}


@pytest.fixture
def people(write_csv, tmp_path) -> Callable[..., People]:
    """`people([{"subject": 1}], wanted=["dx"], age_unit="months")`: a table, read."""

    def read(rows: list[dict[str, Any]], wanted: list[str] | None = None, **keys: Any) -> People:
        table = write_csv(tmp_path / "people.csv", rows)
        return read_people(table, SourceConfig(**keys), wanted or [])

    return read


@pytest.fixture
def lab(tmp_path, bold, write_csv, write_1d, recipe) -> Callable[..., ShardRecipe]:
    """`lab("mat", [{"subject": 1, "age": 20, "sex": "M"}])`: files of people and their table, as
    each reader has them; the columns are named as given, but for abide's own."""

    def write(reader: str, rows: list[dict[str, Any]], **keys: Any) -> ShardRecipe:
        folder = tmp_path / "lab"
        table = folder / "lab_metadata.csv"
        for i in range(1, 4):
            if reader == "auckland":
                file = folder / f"sub-control{i}" / f"sub-control{i}_AAL116_features_timeseries.mat"
            else:
                suffix = {"abide": "_rois_x.1D", "mat": ".mat"}.get(reader, ".npy")
                file = folder / f"sub-{i}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".mat":
                scipy.io.savemat(file, {"data": bold(i)})
            elif file.suffix == ".1D":
                write_1d(file, bold(i))
            else:
                np.save(file, bold(i))
        if reader == "table":
            named = {"file": None} | rows[0]
            rows = [named | {"file": f"sub-{i}.npy"} | row for i, row in enumerate(rows, 1)]
        if reader == "abide":
            own = {"FILE_ID": "", "SITE_ID": "A", "EYE_STATUS_AT_SCAN": 1, "DX_GROUP": 1}
            rows = [own | {OWN_COLUMNS.get(k.lower(), k): v for k, v in r.items()} for r in rows]
        write_csv(table, rows)
        key = "phenotypes" if reader == "abide" else "table"
        pattern = r"sub-(?P<subject>\d+)"
        extra = {"names": {"names": pattern}, "mat": {"subject_pattern": r"sub-(\d+)"}}
        where = {} if reader == "table" else {"dir": folder}
        return recipe(
            reader=reader, groups=[], **{key: table}, **where, **extra.get(reader, {}), **keys
        )

    return write


def facts(scans: list[Recording]) -> list[tuple[str, float | None, str | None]]:
    return [(scan.subject.removeprefix("sub-"), scan.age, scan.sex) for scan in scans]


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_takes_capitals_and_missing_words(reader: str, lab, read_all) -> None:
    rows = [
        {"Subject": 1, "Age": "20", "Sex": "male"},
        {"Subject": 2, "Age": "#N/A", "Sex": "NULL"},
        {"Subject": 3, "Age": "36-40", "Sex": "F"},
    ]
    scans, _ = read_all(lab(reader, rows))
    assert facts(scans) == [("1", 20.0, "M"), ("2", None, None), ("3", 38.0, "F")]


@pytest.mark.parametrize("reader", [r for r in READERS if r != "abide"])
def test_every_reader_takes_usual_names_a_map_of_sexes_and_months(reader, lab, read_all) -> None:
    rows = [{"participant_id": f"sub-{i}", "age_at_scan": 480, "Gender": "wm1"[i]} for i in (1, 2)]
    rows.append({"participant_id": "sub-3", "age_at_scan": "40y", "Gender": "W"})
    made = lab(reader, rows, age_unit="months", sex_map={"w": "F", "M": "M", "1": "M"})
    assert facts(read_all(made)[0]) == [("1", 40, "M"), ("2", 40, "M"), ("3", 40, "F")]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"Age": "520"}, "row 2: .*520.* nobody's age; ages in months: source.age_unit=months"),
        ({"Age": "-3"}, "row 2: .*-3.* nobody's age"),
        ({"Sex": "W"}, r"row 2: \w+ is 'W', expected"),
    ],
)
def test_every_reader_names_row_and_column(reader, row, message, lab, read_all) -> None:
    rows = [{"Subject": 1, "Age": 20, "Sex": "F"} | row]
    with pytest.raises(InputError, match=message):
        read_all(lab(reader, rows))


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_keeps_open_ages_as_a_remark(reader: str, lab, read_all) -> None:
    rows = [{"Subject": i, "Age": age} for i, age in enumerate(("90+", "20", ">89"), 1)]
    scans, _ = read_all(lab(reader, rows))
    assert [scan.age for scan in scans] == [90, 20, 89]
    assert [len(scan.remarks) for scan in scans] == [1, 0, 1]
    assert "'90+'" in scans[0].remarks[0]


@pytest.mark.parametrize("reader", ["names", "mat", "auckland", "abide"])
def test_rows_of_one_person_that_differ_are_refused_and_equal_ones_are_fine(
    reader: str, lab, read_all
) -> None:
    rows = [{"Subject": s, "Age": 20, "Sex": "M"} for s in (1, "01", 2, 3)]
    made = lab(reader, rows)
    scans, skipped = read_all(made)
    assert len(scans) == 3 and skipped == []
    made = lab(reader, [rows[0], rows[1] | {"Sex": "F", "Age": 21}, *rows[2:]])
    with pytest.raises(InputError, match=r"rows 2 and 3 are both 0?1 and differ in sex.*age"):
        read_all(made)


def test_rows_must_agree_in_the_columns_that_the_recipe_names(people) -> None:
    rows = [{"subject": "1", "dx": dx, "image": dx} for dx in ("CN", "SZ")]
    assert people(rows).of("1").person.labels == {"dx": "CN", "image": "CN"}
    with pytest.raises(InputError, match=r"rows 2 and 3 are both 1 and differ in dx \(CN, SZ\)"):
        people(rows, wanted=["DX"])


def test_several_rows_of_a_person_are_one_person(people) -> None:
    found = people(
        [
            {"Subject": "50002", "Sex": "M", "Age": "", "Modality": "fMRI"},
            {"Subject": "0050002", "Sex": "", "Age": "17", "Modality": "MRI"},
        ]
    )
    (entry,) = found.entries.values()
    assert (entry.person.sex, entry.person.age) == ("M", 17.0)
    assert entry.person.labels["Modality"] == "fMRI"
    assert found.of("sub-50002") is entry


def test_two_columns_that_could_both_be_meant_are_a_question(people) -> None:
    row = {"subject": "1", "Age": "20", "age": "21"}
    with pytest.raises(InputError, match=r"'Age' and 'age' could both be the age.*columns\.age"):
        people([row])
    assert people([row], columns={"age": "Age"}).of("1").person.age == 20
    assert people([row | {"Age": "21"}]).of("1").person.age == 21


def test_a_recipe_may_name_the_columns(people) -> None:
    found = people([{"RID": "1", "AGE_V1": "20"}], columns={"subject": "RID", "age": "AGE_V1"})
    assert found.of("1").person.age == 20
    with pytest.raises(InputError, match=r"no column 'RIDD' \(source\.columns\.subject\).*'RID'"):
        people([{"RID": "1"}], columns={"subject": "RIDD"})
    with pytest.raises(InputError, match=r"source\.columns\.aeg: no such fact.*'age'"):
        check_people(SourceConfig(columns={"aeg": "x"}))


@pytest.mark.parametrize("word", ["1", "0", "2.0", "W", "weiblich"])
def test_words_for_sex_that_mean_nothing_by_themselves_ask_for_a_map(word: str, people) -> None:
    with pytest.raises(InputError, match=r"row 2: sex is .*source\.sex_map"):
        people([{"subject": "1", "sex": word}])
    found = people([{"subject": "1", "sex": word}], sex_map={word.removesuffix(".0"): "F"})
    assert found.of("1").person.sex == "F"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"subject": "", "age": "4"}, "row 2: subject is empty"),
        ({"name": "x"}, r"no column 'subject'.*participant_id.*source\.columns\.subject"),
    ],
)
def test_a_cell_that_cannot_be_meant_is_named(row: dict[str, str], message: str, people) -> None:
    with pytest.raises(InputError, match=message):
        people([row])


@pytest.mark.parametrize("reader", ["names", "mat", "auckland"])
def test_a_table_that_knows_nobody_is_refused(reader: str, lab, read_all) -> None:
    with pytest.raises(InputError, match=r"lab_metadata\.csv"):
        read_all(lab(reader, [{"Subject": "P7", "Age": 20}]))


@pytest.mark.parametrize("reader", ["names", "auckland"])
def test_people_whom_the_table_does_not_know_are_said(reader: str, lab, read_all) -> None:
    scans, _ = read_all(lab(reader, [{"Subject": "1", "Age": 20}]))
    assert [scan.remarks for scan in scans] == [(), *[("not in the table of people",)] * 2]


@pytest.mark.parametrize(
    ("file", "subject", "pattern"),
    [
        ("bold_sub-0051450.mat", "51450", r"bold_sub-(\d+)"),
        ("P00_run1.mat", "P00", r"^(.+)_run1\.mat$"),
    ],
)
def test_a_file_that_fits_no_row_is_matched_by_the_pattern_that_is_advised(
    file: str, subject: str, pattern: str, tmp_path, bold, write_csv, recipe, read_all
) -> None:
    scipy.io.savemat(tmp_path / file, {"data": bold(0)})
    table = write_csv(tmp_path / "people.csv", [{"subject": subject, "age": 20}])
    made = recipe(reader="mat", dir=tmp_path, table=table)
    with pytest.raises(InputError) as caught:
        read_all(made)
    assert f"{file} is perhaps row {subject}: source.subject_pattern={pattern}" in str(caught.value)
    made.source.subject_pattern = pattern
    assert facts(read_all(made)[0]) == [(subject, 20, None)]


def test_suffixes_may_be_capitals(tmp_path: Path, bold, recipe, read_all) -> None:
    scipy.io.savemat(tmp_path / "1.MAT", {"data": bold(0)}, appendmat=False)
    assert len(read_all(recipe(reader="mat", dir=tmp_path))[0]) == 1
    np.save(tmp_path / "x.npy", bold(0))
    (tmp_path / "x.npy").rename(tmp_path / "sub-2.NPY")
    made = recipe(reader="names", dir=tmp_path, names="sub-(?P<subject>.+)[.]", pattern="*.npy")
    assert len(read_all(made)[0]) == 1


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("sub\\a.npy", "did you mean .*sub/a.npy"),
        ("A.NPY", "did you mean 'a.npy'"),
        ("x/a.npy", "no folder"),
    ],
)
def test_where_no_file_is_there_the_first_path_is_named(
    file: str, hint: str, tmp_path, bold, write_csv, recipe, read_all
) -> None:
    for folder in (tmp_path, tmp_path / "sub"):
        folder.mkdir(exist_ok=True)
        np.save(folder / "a.npy", bold(0))
    table = write_csv(tmp_path / "scans.csv", [{"file": file, "subject": 1}])
    with pytest.raises(InputError, match=rf"none of its 1 files is there.*row 2.*{hint}"):
        read_all(recipe(reader="table", table=table))
