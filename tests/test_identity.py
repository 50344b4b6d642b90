"""Who is who, without names: what makes two ids one person, and how the salt is kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_scale.errors import InputError
from lcm_scale.identity import hash_scan, hash_subject, normalised, project_salt, salt_id, salt_path

SALT, OTHER = b"a" * 32, b"b" * 32


@pytest.fixture
def salt_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCM_SALT_FILE", str(tmp_path / "secrets" / "salt"))
    return tmp_path / "secrets" / "salt"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0050003", "50003"),
        (" 50003 ", "50003"),
        ("000", "0"),
        ("sub-01", "sub-01 "),
        ("sub-0050003", "50003"),
        ("50003.0", "0050003"),
        ("sub-01", "sub-1"),
        ("sub-control032057", "control032057"),
    ],
)
def test_two_spellings_of_an_id_are_one_person(first: str, second: str) -> None:
    assert hash_subject(SALT, "abide", first) == hash_subject(SALT, "abide", second)


@pytest.mark.parametrize(
    ("first", "second"),
    [("50003", "50030"), ("s1", "S1"), ("10", "1"), ("50003.5", "50003"), ("sub-", "0")],
)
def test_other_ids_are_other_people(first: str, second: str) -> None:
    assert hash_subject(SALT, "abide", first) != hash_subject(SALT, "abide", second)


def test_the_cohort_counts_but_not_its_case() -> None:
    assert hash_subject(SALT, "ABIDE", "1") == hash_subject(SALT, " abide", "1")
    assert hash_subject(SALT, "abide", "1") != hash_subject(SALT, "adni", "1")


def test_another_salt_gives_other_hashes_and_another_fingerprint() -> None:
    assert hash_subject(SALT, "abide", "1") != hash_subject(OTHER, "abide", "1")
    assert salt_id(SALT) != salt_id(OTHER)
    assert SALT.hex() not in salt_id(SALT)


def test_hashes_are_the_same_for_ever() -> None:
    """Stored in shards and checkpoints: a change here makes everybody a stranger."""
    assert hash_subject(SALT, "abide", "50003") == "451c7274447b5186"
    assert salt_id(SALT) == "1eb1dd509e4d77a5"


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_parts_do_not_run_into_each_other(a: str, b: str, c: str) -> None:
    if b and (a + b, c) != (a, b + c):
        assert hash_scan(SALT, "x", "1", a + b, c, 0) != hash_scan(SALT, "x", "1", a, b + c, 0)


@pytest.mark.parametrize(
    "change", [{"session": "2"}, {"run": "2"}, {"window": 1}, {"subject": "2"}, {"cohort": "y"}]
)
def test_each_scan_of_a_person_has_its_own_hash(change: dict[str, object]) -> None:
    scan = {"cohort": "x", "subject": "1", "session": "1", "run": "1", "window": 0}
    assert hash_scan(SALT, **scan) != hash_scan(SALT, **(scan | change))  # type: ignore[arg-type]


@given(st.text())
def test_normalising_twice_is_normalising_once(subject: str) -> None:
    assert normalised(normalised(subject)) == normalised(subject)


def test_the_salt_is_made_once_readable_by_its_owner_only(salt_file: Path) -> None:
    salt = project_salt()
    assert len(salt) == 32
    assert project_salt() == salt
    assert stat.S_IMODE(salt_file.stat().st_mode) == 0o600
    assert [p.name for p in salt_file.parent.iterdir()] == ["salt"]


def test_two_projects_have_two_salts(salt_file: Path) -> None:
    first = project_salt()
    salt_file.unlink()
    assert project_salt() != first


@pytest.mark.parametrize(
    "content", ["", "abcd\n", "no hex digits at all, but long enough to be a salt"]
)
def test_a_damaged_salt_is_refused_and_left_as_it_is(content: str, salt_file: Path) -> None:
    salt_file.parent.mkdir()
    salt_file.write_text(content)
    with pytest.raises(InputError, match=r"salt: .*restore it from a backup"):
        project_salt()
    assert salt_file.read_text() == content


def test_a_salt_that_cannot_be_written_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LCM_SALT_FILE", str(tmp_path / "file" / "salt"))
    with pytest.raises(InputError, match="LCM_SALT_FILE"):
        project_salt()


def test_without_the_variable_the_salt_lies_beside_the_nearest_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LCM_SALT_FILE", raising=False)
    (tmp_path / "project" / ".git").mkdir(parents=True)
    (tmp_path / "project" / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "deep" / "er")
    assert salt_path() == tmp_path / "project" / ".lcm-salt"
