"""ABIDE files: `{FILE_ID}_rois_aal.1D` beside one phenotype CSV."""

from __future__ import annotations

import numpy as np
import pytest

from lcm_scale.atlas import load_atlas
from lcm_scale.config import ConnectivityConfig, GroupConfig
from lcm_scale.data.connectivity import connectivity_matrices
from lcm_scale.errors import InputError


def test_tabs_crlf_and_a_hashed_header_are_read(abide_folder, recipe, read_all, bold) -> None:
    (first, *_), skipped = read_all(recipe(dir=abide_folder()))
    assert np.array_equal(first.series, bold(0))
    assert first.columns == ("1", "2", "3", "4", "5", "6")
    assert skipped == []


def test_codes_words_and_numbers_of_the_table_become_facts(abide_folder, recipe, read_all) -> None:
    (a, b, *_), _ = read_all(recipe(dir=abide_folder(), tr=2.0))
    assert (a.subject, a.site, a.age, a.sex, a.mean_fd, a.tr) == (
        "50000",
        "PITT",
        10.0,
        "M",
        0.1,
        2.0,
    )
    assert a.labels == {"diagnosis": "Autism", "site": "PITT", "eye_status": "open"}
    assert (b.sex, b.labels["diagnosis"], b.labels["eye_status"]) == ("F", "CN", "closed")
    assert (a.cohort, a.simulated) == ("tiny", False)


@pytest.mark.parametrize("missing", ["-9999", "", "n/a", "-9999.0", "NaN"])
def test_a_missing_cell_is_missing_and_not_a_number(
    missing: str, abide_folder, recipe, read_all
) -> None:
    columns = ("AGE_AT_SCAN", "SEX", "EYE_STATUS_AT_SCAN", "func_mean_fd", "DX_GROUP", "SITE_ID")
    (scan, *_), _ = read_all(recipe(dir=abide_folder(changes={0: dict.fromkeys(columns, missing)})))
    assert (scan.age, scan.sex, scan.mean_fd, scan.site) == (None, None, None, "")
    assert scan.labels == {"diagnosis": None, "site": None, "eye_status": None}


def test_columns_in_another_order_are_brought_into_the_atlass(
    tmp_path, abide_folder, write_1d, bold, recipe, read_all
) -> None:
    folder = abide_folder()
    straight = read_all(recipe(dir=folder))[0][0]
    order = [3, 0, 5, 1, 4, 2]
    write_1d(folder / "Site_0050000_rois_aal.1D", bold(0)[:, order], [i + 1 for i in order])
    turned = read_all(recipe(dir=folder))[0][0]
    (a,), (b,) = (
        connectivity_matrices(scan, ConnectivityConfig(), load_atlas("tiny:6"))
        for scan in (straight, turned)
    )
    assert np.array_equal(a.values, b.values)


def test_a_person_who_failed_the_projects_checks_is_left_out_and_said(
    abide_folder, recipe, read_all
) -> None:
    folder = abide_folder(changes={2: {"FILE_ID": "no_filename"}})
    scans, (left_out,) = read_all(recipe(dir=folder))
    assert [scan.subject for scan in scans] == ["50000", "50001", "50003"]
    assert (left_out.what, left_out.reported) == ("Site_0050002_rois_aal.1D", True)
    assert "no_filename" in left_out.why and "source.all_files" in left_out.why


def test_all_files_takes_such_a_person_by_the_number_in_the_files_name_and_remarks_it(
    abide_folder, recipe, read_all
) -> None:
    folder = abide_folder(changes={2: {"FILE_ID": "no_filename"}})
    scans, skipped = read_all(recipe(dir=folder, all_files=True))
    assert [scan.subject for scan in scans] == ["50000", "50001", "50002", "50003"]
    assert skipped == []
    assert [bool(scan.remarks) for scan in scans] == [False, False, True, False]
    assert "no_filename" in scans[2].remarks[0]


def test_without_a_file_id_in_the_table_the_number_decides(abide_folder, recipe, read_all) -> None:
    folder = abide_folder(changes={2: {"FILE_ID": ""}})
    assert len(read_all(recipe(dir=folder))[0]) == 4


def test_the_file_id_decides_before_the_number(abide_folder, recipe, read_all) -> None:
    folder = abide_folder(changes={0: {"FILE_ID": "Site_0050001"}, 1: {"FILE_ID": "Site_0050000"}})
    scans, _ = read_all(recipe(dir=folder))
    assert [scan.subject for scan in scans] == ["50001", "50000", "50002", "50003"]


def test_a_row_without_a_file_and_a_file_without_a_row_are_listed(
    abide_folder, recipe, read_all, write_1d, bold
) -> None:
    folder = abide_folder()
    (folder / "Site_0050001_rois_aal.1D").unlink()
    write_1d(folder / "Site_0099999_rois_aal.1D", bold(9))
    scans, skipped = read_all(recipe(dir=folder))
    assert [scan.subject for scan in scans] == ["50000", "50002", "50003"]
    assert [(skip.what, skip.why) for skip in skipped] == [
        ("Site_0099999_rois_aal.1D", "file without a row in the phenotype table"),
        ("row of SUB_ID 50001", "phenotype row without a file"),
    ]


def test_any_column_may_be_a_label(abide_folder, recipe, read_all) -> None:
    made = recipe(dir=abide_folder(changes={i: {"HANDEDNESS": "RL"[i % 2]} for i in range(4)}))
    made.groups = [GroupConfig("hand", column="HANDEDNESS")]
    scans, _ = read_all(made)
    assert [scan.labels["HANDEDNESS"] for scan in scans] == ["R", "L", "R", "L"]


def test_the_table_may_lie_above_the_files(abide_folder, recipe, read_all) -> None:
    folder = abide_folder(folder="raw/filt_global/rois_aal")
    (folder / "phenotypes.csv").rename(folder.parents[1] / "phenotypes.csv")
    assert len(read_all(recipe(dir=folder))[0]) == 4


def test_of_several_atlases_in_one_folder_the_fitting_one_is_read(
    abide_folder, recipe, read_all, write_1d, bold
) -> None:
    folder = abide_folder()
    write_1d(folder / "Site_0050000_rois_cc200.1D", bold(0, regions=9), range(9))
    scans, _ = read_all(recipe(dir=folder))
    assert [scan.source.endswith("_rois_aal.1D") for scan in scans] == [True] * 4
    with pytest.raises(InputError, match=r"several atlases \(aal, cc200\).*source\.pattern"):
        read_all(recipe(dir=folder, atlas="tiny:7"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"AGE_AT_SCAN": "eleven"},
            r"phenotypes\.csv, row 3: AGE_AT_SCAN is 'eleven', expected a number",
        ),
        ({"SEX": "3"}, r"row 3: SEX is '3', expected 1 \(M\), 2 \(F\), m"),
        ({"DX_GROUP": "ASD"}, r"row 3: DX_GROUP is 'ASD'"),
        ({"SUB_ID": ""}, r"row 3: SUB_ID is empty"),
    ],
)
def test_a_wrong_cell_is_named_by_row_and_column(
    change: dict[str, str], message: str, abide_folder, recipe, read_all
) -> None:
    with pytest.raises(InputError, match=message):
        read_all(recipe(dir=abide_folder(changes={1: change})))


def test_a_folder_without_files_or_table_says_which_key_names_it(
    tmp_path, abide_folder, recipe, read_all
) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder \(source\.dir"):
        read_all(recipe(dir=tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no \*_rois_aal\.1D files"):
        read_all(recipe(dir=tmp_path / "empty"))
    folder = abide_folder()
    (folder / "phenotypes.csv").rename(tmp_path / "elsewhere.txt")
    with pytest.raises(InputError, match=r"no phenotype CSV .*source\.phenotypes"):
        read_all(recipe(dir=folder))


def test_two_tables_in_one_folder_are_not_guessed_between(abide_folder, recipe, read_all) -> None:
    folder = abide_folder()
    (folder / "second.csv").write_bytes((folder / "phenotypes.csv").read_bytes())
    with pytest.raises(InputError, match=r"phenotypes\.csv, second\.csv"):
        read_all(recipe(dir=folder))
    assert len(read_all(recipe(dir=folder, phenotypes=folder / "second.csv"))[0]) == 4


def test_one_file_of_two_people_is_refused(abide_folder, recipe, read_all) -> None:
    folder = abide_folder(changes={1: {"FILE_ID": "Site_0050000"}})
    with pytest.raises(InputError, match="rows 2 and 3 name one file, FILE_ID Site_0050000, for"):
        read_all(recipe(dir=folder))


def test_the_columns_may_be_in_lower_case(abide_folder, recipe, read_all) -> None:
    folder = abide_folder()
    table = folder / "phenotypes.csv"
    header, _, rows = table.read_text().partition("\n")
    table.write_text(f"{header.lower()}\n{rows}")
    scans, _ = read_all(recipe(dir=folder))
    assert (scans[0].age, scans[0].sex, scans[0].site) == (10.0, "M", "PITT")
    assert scans[0].labels["diagnosis"] == "Autism"
