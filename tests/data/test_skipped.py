"""Scans that are left out: one bad file among good ones, and the list of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcm_scale.data.recordings import Skipped
from lcm_scale.data.shards import write_shards
from lcm_scale.data.skipped import report_skipped
from lcm_scale.errors import InputError


def spoil(made, number: int, content: bytes = b"no array") -> str:
    file = Path(made.source.table).parent / f"scan-of-{number}-1.npy"
    file.write_bytes(content)
    return file.name


def test_a_bad_file_stops_everything_by_default(tiny_recipe) -> None:
    made = tiny_recipe(people=4)
    name = spoil(made, 2)
    with pytest.raises(InputError, match=name):
        write_shards(made)


def test_with_skip_the_others_go_on_and_every_report_says_it(tiny_recipe, capsys) -> None:
    made = tiny_recipe(people=5)
    made.source.on_error = "skip"
    name = spoil(made, 2)
    manifest = write_shards(made)
    assert manifest.scans == 4
    why = "file that cannot be read (source.on_error: skip)"
    assert manifest.quality["skipped"] == {why: 1}
    assert f"Left out, 1: {why}." in manifest.notes
    assert name in capsys.readouterr().err
    assert name not in str(manifest.to_json())


def test_a_scan_of_another_atlas_is_skipped_alike(tiny_recipe, bold, tmp_path) -> None:
    import numpy as np

    made = tiny_recipe(people=5)
    made.source.on_error = "skip"
    np.save(Path(made.source.table).parent / "scan-of-2-1.npy", bold(0, regions=5))
    np.save(Path(made.source.table).parent / "scan-of-3-1.npy", bold(0) * np.nan)
    manifest = write_shards(made)
    assert manifest.scans == 3 and sum(manifest.quality["skipped"].values()) == 2


def test_where_most_are_bad_it_is_an_error_all_the_same(tiny_recipe) -> None:
    made = tiny_recipe(people=4)
    made.source.on_error = "skip"
    for number in (1, 2, 3):
        spoil(made, number)
    with pytest.raises(InputError, match=r"more than half of 4 scans.*scan-of-1-1\.npy"):
        write_shards(made)


def test_a_bad_table_stops_even_with_skip(tiny_recipe) -> None:
    made = tiny_recipe(people=4)
    made.source.on_error = "skip"
    table = Path(made.source.table)
    table.write_text(table.read_text().replace(",21,", ",old,"))
    with pytest.raises(InputError, match=r"table\.csv, row 2: age is 'old'"):
        write_shards(made)


def test_a_long_list_is_summed_up_and_kept_where_nothing_is_shared(tmp_path, capsys) -> None:
    """The salt of these tests is tmp_path/salt."""
    skipped = [Skipped(f"row of {i}", "no file") for i in range(9)] + [Skipped("x", "short")]
    report_skipped("lab", skipped)
    said = capsys.readouterr().err
    assert "skipped 9, no file: row of 0, row of 1, row of 2 and 6 more" in said
    assert "skipped 1, short: x" in said
    listed = tmp_path / ".lcm-private" / "lab-skipped.csv"
    assert len(listed.read_text().splitlines()) == 11 and str(listed) in said
    assert listed.parent.stat().st_mode & 0o077 == 0
    assert (listed.parent / ".gitignore").read_text() == "*\n"
    report_skipped("lab", skipped[:2])
    assert not listed.exists()


def test_the_list_is_not_among_the_shards(tiny_recipe, tmp_path) -> None:
    made = tiny_recipe(people=8)
    table = Path(made.source.table)
    for number in range(1, 6):
        (table.parent / f"scan-of-{number}-1.npy").unlink()
    write_shards(made)
    texts = [p.read_bytes() for p in (tmp_path / "shards").rglob("*") if p.is_file()]
    assert texts and not any(b"scan-of-" in text for text in texts)
    assert (tmp_path / ".lcm-private" / "tiny-skipped.csv").is_file()
