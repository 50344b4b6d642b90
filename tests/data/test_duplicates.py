"""One person twice in the data: a recipe joins ids, or leaves scans out, and what it did is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lcm_scale.config import ShardRecipe, load
from lcm_scale.data.manifest import read_index, read_manifest
from lcm_scale.data.shards import prepare_shards, write_shards
from lcm_scale.errors import InputError


def answered(made: ShardRecipe, **answers: list) -> ShardRecipe:
    return replace(made, source=replace(made.source, **answers))


def test_joined_ids_are_one_person_with_all_her_scans(tiny_recipe, tmp_path, capsys) -> None:
    made = answered(tiny_recipe(people=6, runs=2), same_person=[["2", "sub-005"], ["4", "006"]])
    manifest = write_shards(made)
    assert (manifest.scans, len(manifest.subjects)) == (12, 4)
    index = read_index(tmp_path / "shards" / "tiny", manifest)
    assert sorted(index.subject.tolist()) == [0] * 2 + [1] * 4 + [2] * 2 + [3] * 4
    note = next(note for note in manifest.notes if note.startswith("Joined"))
    assert note == (
        "Joined by the recipe (source.same_person): 4 ids are 2 people, whose tables differ in "
        "age (2), diagnosis (1), sex (1)."
    )
    assert "2 = sub-005" in capsys.readouterr().err


def test_a_joined_person_is_the_same_one_in_other_sets(tiny_recipe, tmp_path) -> None:
    joined = write_shards(answered(tiny_recipe(people=3), same_person=[["1", "3"]]))
    alone = write_shards(tiny_recipe("other", people=1, cohort="tiny"))
    assert set(alone.subjects) < set(joined.subjects)


def test_left_out_scans_are_counted_in_manifest_and_reports(tiny_recipe, tmp_path, capsys) -> None:
    made = tiny_recipe(people=6, runs=2)
    names = ["sub-02", "scan-of-4-1.npy", "tiny/scan-of-5-2.npy"]
    manifest = write_shards(answered(made, leave_out=names))
    assert (manifest.scans, len(manifest.subjects)) == (8, 5)
    why = "left out by the recipe (source.leave_out)"
    assert manifest.quality["skipped"] == {why: 4}
    assert f"Left out, 4: {why}." in manifest.notes
    assert "scan-of-2-1.npy" in capsys.readouterr().err


def test_answers_stand_in_nothing_that_is_written(tiny_recipe, tmp_path) -> None:
    made = answered(tiny_recipe(people=4), same_person=[["1", "003"]], leave_out=["004"])
    write_shards(made)
    folder = tmp_path / "shards" / "tiny"
    written = json.dumps(read_manifest(folder).to_json())
    assert "same_person: " not in written and '"003"' not in written and '"004"' not in written
    for file in folder.iterdir():
        assert b"scan-of-" not in file.read_bytes()


def test_one_file_of_two_people_is_a_question_with_two_answers(tiny_recipe) -> None:
    made = tiny_recipe(people=3)
    folder = Path(made.source.table or "").parent
    (folder / "scan-of-3-1.npy").write_bytes((folder / "scan-of-1-1.npy").read_bytes())
    with pytest.raises(InputError) as asked:
        write_shards(made)
    assert "source.leave_out=[003]" in str(asked.value)
    assert "source.same_person=[[001, 003]]" in str(asked.value)
    assert write_shards(answered(made, leave_out=["003"])).scans == 2
    assert len(write_shards(answered(made, same_person=[["001", "003"]])).subjects) == 2


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"leave_out": ["0017"]}, r"source\.leave_out: no scan is of subject or file '0017'"),
        ({"leave_out": ["scan-of-3-l.npy"]}, r"did you mean 'scan-of-3-1\.npy'\?"),
        ({"same_person": [["1", "0017"]]}, r"source\.same_person: no scan is of subject '0017'"),
        ({"same_person": [["1"]]}, r"\[1\]: expected two ids of one person or more"),
        ({"same_person": [["1", "2"], ["sub-1", "3"]]}, " 1 is named twice; all ids of a person"),
        ({"same_person": [["1", "01"]]}, "1 is named twice"),
    ],
)
def test_answers_that_mean_nothing_are_refused(answers, message, tiny_recipe) -> None:
    with pytest.raises(InputError, match=message):
        write_shards(answered(tiny_recipe(people=4), **answers))


def test_a_recipe_gives_ids_as_numbers_or_words(tmp_path) -> None:
    text = "name: a\nsource: {same_person: [[51450, 51451], [x1, x2]], leave_out: [51452, y.1D]}\n"
    (tmp_path / "a.yaml").write_text(text)
    made = load(ShardRecipe, tmp_path / "a.yaml", ["source.age_unit=years"])
    assert made.source.same_person == [["51450", "51451"], ["x1", "x2"]]
    assert made.source.leave_out == ["51452", "y.1D"]
    with pytest.raises(InputError, match=r"same_person=5: expected a list"):
        load(ShardRecipe, tmp_path / "a.yaml", ["source.same_person=[5]"])
    prepare_shards(replace(made, reader="simulated"))
