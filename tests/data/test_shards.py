"""Raw files to a shard set: what stands in it, in which order, and that it is there whole or not at
all."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
import webdataset as wds

from lcm_scale.atlas import load_atlas
from lcm_scale.config import ConnectivityConfig, GroupConfig, ShardRecipe
from lcm_scale.data import store
from lcm_scale.data.connectivity import pearson
from lcm_scale.data.manifest import read_index, read_manifest
from lcm_scale.data.shards import write_shards
from lcm_scale.data.verify import DecodedRecord, decode_record, verify_shards
from lcm_scale.errors import InputError

UPPER = np.triu_indices(6, 1)


def blocks_of(folder: Path) -> list[DecodedRecord]:
    """Every record, by offset and length as the manifest gives them."""
    found = []
    manifest = read_manifest(folder)
    for shard in manifest.shards:
        data = (folder / shard.file).read_bytes()
        found += [
            decode_record(data[r.offset : r.offset + r.bytes], manifest, r.scans)
            for r in shard.records
        ]
    return found


def test_a_set_holds_the_correlations_and_labels_of_its_files(tiny_set, bold) -> None:
    folder = tiny_set(people=3, dtype="float32")
    (block,) = blocks_of(folder)
    for i in range(3):
        assert np.array_equal(block.fc[i], pearson(bold(100 * (i + 1) + 1))[UPPER])
    vocabulary = read_manifest(folder).vocabulary
    assert vocabulary["diagnosis"].categories == ("N/A", "Autism", "CN")
    assert vocabulary.names == ("diagnosis", "sex", "age")
    assert block.bei.tolist() == [[1, 1, 21], [2, 0, 22], [1, 1, 23]]


def test_half_precision_costs_a_thousandth(tiny_set, bold) -> None:
    (block,) = blocks_of(tiny_set(people=1, sex=False, age=False))
    assert block.fc.dtype == np.float16
    assert np.abs(block.fc[0] - pearson(bold(101))[UPPER]).max() < 1e-3


def test_facts_of_a_scan_stand_beside_it(tiny_set) -> None:
    (block,) = blocks_of(tiny_set(people=2, tr=2.0, cohort="c"))
    fact = block.meta[0]
    assert (fact["site"], fact["run"], fact["age"], fact["sex"], fact["tr"]) == (
        "south",
        "1",
        21.0,
        "F",
        2.0,
    )
    assert (fact["volumes"], fact["window"], fact["mean_fd"], fact["constant_regions"]) == (
        40,
        0,
        None,
        0,
    )


def test_equal_input_gives_equal_bytes(tiny_recipe, shard_bytes) -> None:
    made = tiny_recipe(people=5, block=2)
    folder = Path(made.shards_dir) / "tiny"
    write_shards(made)
    first = shard_bytes(folder)
    write_shards(made)
    assert shard_bytes(folder) == first


def test_scans_stand_by_subject_id_however_they_are_listed(tiny_recipe, shard_bytes) -> None:
    made = tiny_recipe(people=5)
    write_shards(made)
    folder = Path(made.shards_dir) / "tiny"
    first = shard_bytes(folder)
    table = Path(made.source.table or "")
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]))
    manifest = write_shards(made)
    second = shard_bytes(folder)
    for name in ("tiny-000000.tar", "index.npz", "manifest.json"):
        assert first[name] == second[name]
    assert manifest.subject_ranks == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("people", "block", "shard_scans"), [(7, 3, 6), (6, 3, 6), (7, 128, 4), (1, 1, 1), (7, 4, 6)]
)
def test_blocks_and_tars_hold_every_scan_once_in_order(
    people: int, block: int, shard_scans: int, tiny_set
) -> None:
    folder = tiny_set(people=people, block=block, shard_scans=shard_scans)
    manifest = verify_shards(folder)
    assert [s.scans for s in manifest.shards] == [
        min(shard_scans, people - i) for i in range(0, people, shard_scans)
    ]
    assert max(r.scans for s in manifest.shards for r in s.records) <= block
    ages = [fact["age"] for record in blocks_of(folder) for fact in record.meta]
    assert ages == [21.0 + i for i in range(people)]
    keys = [r.key for s in manifest.shards for r in s.records]
    assert keys == sorted(set(keys))


def test_plain_tarfile_reads_a_set(tiny_set) -> None:
    folder = tiny_set(people=5, block=2)
    with tarfile.open(folder / "tiny-000000.tar") as tar:
        names = tar.getnames()
        members = [tar.extractfile(name) for name in names if name.endswith(".fc.npy")]
        loaded = [
            np.load(BytesIO(member.read()), allow_pickle=False) for member in members if member
        ]
    assert sorted(names[:3]) == [
        "tiny-000000000.bei.npy",
        "tiny-000000000.fc.npy",
        "tiny-000000000.meta.json",
    ]
    assert [x.shape for x in loaded] == [(2, 15), (2, 15), (1, 15)]


def test_plain_webdataset_reads_a_set(tiny_set) -> None:
    folder = tiny_set(people=5, block=2)
    samples = list(wds.WebDataset(str(folder / "tiny-000000.tar"), shardshuffle=False).decode())
    for sample, block in zip(samples, blocks_of(folder), strict=True):
        assert np.array_equal(sample["fc.npy"], block.fc)
        assert np.array_equal(sample["bei.npy"], block.bei, equal_nan=True)
        assert sample["meta.json"] == block.meta


def test_no_raw_id_or_file_name_is_written(tiny_recipe, shard_bytes, tmp_path) -> None:
    """Neither as bytes nor as numpy's four bytes a letter; not the folder, and not the salt."""
    made = tiny_recipe(people=4, runs=2)
    table = Path(made.source.table or "")
    table.write_text(
        table.read_text().replace(",001,", ",Mustermann,").replace(",002,", ",0051234,")
    )
    write_shards(made)
    secrets = ["Mustermann", "0051234", "51234", "scan-of", ".npy\n", str(tmp_path), "table.csv"]
    secrets.append((tmp_path / "salt").read_text().strip())
    written = shard_bytes(tmp_path / "shards")
    assert len(written) == 5
    for name, data in written.items():
        for secret in secrets:
            for encoding in ("utf-8", "utf-16-le", "utf-32-le"):
                assert secret.encode(encoding) not in data, f"{secret} in {name}"
    assert not any("Mustermann" in name or "1234" in name for name in written)


def test_the_store_beside_the_tars_is_what_people_open(tiny_set, bold) -> None:
    folder = tiny_set(people=3, dtype="float32")
    with h5py.File(folder / "tiny.h5") as file:
        content = store.read(file)
        assert np.array_equal(content.fc[1], pearson(bold(201))[UPPER])
        assert content.labels == {"diagnosis": ["Autism", "CN", "Autism"]}
        assert [fact.age for fact in content.facts] == [21.0, 22.0, 23.0]
        assert json.loads(content.provenance["atlas"])["checksum"] == load_atlas("tiny:6").checksum


def test_the_index_tells_of_each_scan_without_a_tar(tiny_set) -> None:
    folder = tiny_set(people=3, runs=2)
    index = read_index(folder, read_manifest(folder))
    assert index.subject.tolist() == [0, 0, 1, 1, 2, 2]
    assert [index.sites[s] for s in index.site] == [
        "south",
        "south",
        "north",
        "north",
        "south",
        "south",
    ]
    assert index.bei[:, 2].tolist() == [21, 21, 22, 22, 23, 23]
    assert index.volumes.tolist() == [40] * 6


def test_windows_are_scans_of_one_person(tiny_set) -> None:
    folder = tiny_set(
        people=2, connectivity=ConnectivityConfig(window=15, min_volumes=10, pad="safe")
    )
    manifest = read_manifest(folder)
    (block,) = blocks_of(folder)
    assert [fact["window"] for fact in block.meta] == [0, 1, 2, 0, 1, 2]
    assert (manifest.scans, len(manifest.subjects)) == (6, 2)
    assert len({fact["scan"] for fact in block.meta}) == 6


def test_quality_counts_what_was_constant_broken_and_left_out(tiny_recipe, bold, capsys) -> None:
    made = tiny_recipe(people=4)
    raw = Path(made.source.table or "").parent
    for i in (1, 2):
        series = bold(i)
        series[:, 4] = 0
        np.save(raw / f"scan-of-{i}-1.npy", series)
    series[3, 0] = np.nan
    np.save(raw / "scan-of-2-1.npy", series)
    np.save(raw / "scan-of-3-1.npy", bold(3, volumes=20))
    (raw / "scan-of-4-1.npy").unlink()
    made.connectivity.accept_missing = [1, 5]
    assert write_shards(made).quality == {
        "scans": 2,
        "skipped": {
            "fewer than 30 volumes (connectivity.min_volumes)": 1,
            "table row without a file": 1,
        },
        "constant regions, in scans": {"region 5 (5)": 2},
        "scans with NaN or inf": 1,
        "regions with NaN or inf, in scans": {"region 1 (1)": 1},
    }
    err = capsys.readouterr().err
    assert "regions without data, of 2 scans: region 1 (1) in 1, region 5 (5) in 2;" in err
    assert "skipped 1, table row without a file: row of subject 004 (scan-of-4-1.npy)" in err
    assert "scan-of-3-1.npy" in err


def test_a_manifest_says_the_kind_and_what_was_done_and_no_more_than_that(tiny_set) -> None:
    usual = {"kind": "pearson", "window": None, "pad": "safe", "crop": None, "min_volumes": 30}
    assert dict(read_manifest(tiny_set("a")).connectivity) == usual
    made = ConnectivityConfig(kind="lagged", window=35, random_windows=2, min_volumes=20)
    manifest = read_manifest(tiny_set("b", connectivity=made))
    assert dict(manifest.connectivity) == {
        **usual,
        **{"kind": "lagged", "window": 35, "min_volumes": 20},
        **{"lag": 1, "random_windows": 2, "random_seed": 0},
    }
    assert manifest.kind == "lagged by 1"


def test_a_fingerprint_holds_the_kind(tiny_recipe) -> None:
    """Equal matrices of which a recipe says different things are different sets."""
    made = tiny_recipe(people=2)
    raw = Path(made.source.table or "").parent
    for file in raw.glob("*.npy"):
        np.save(file, pearson(np.load(file)))
    made.source.kind = "connectivity"
    marks = set()
    for kind in ("pearson", "ledoit-wolf", "covariance"):
        made.connectivity = ConnectivityConfig(kind=kind)
        marks.add(write_shards(made).fingerprint)
    assert len(marks) == 3


def test_ready_matrices_are_said_to_be_what_they_are_taken_for(tiny_recipe, capsys) -> None:
    made = tiny_recipe(people=2, connectivity=ConnectivityConfig(kind="ledoit-wolf"))
    for file in Path(made.source.table or "").parent.glob("*.npy"):
        np.save(file, pearson(np.load(file)))
    made.source.kind = "connectivity"
    assert write_shards(made).kind == "ledoit-wolf"
    assert "2 ready matrices, taken as ledoit-wolf (connectivity.kind)" in capsys.readouterr().err


def test_windows_say_which_scan_they_are_of(tiny_set) -> None:
    cut = ConnectivityConfig(window=20, min_volumes=20)
    folder = tiny_set(people=2, runs=2, connectivity=cut)
    scan = read_index(folder, read_manifest(folder)).scan
    assert scan is not None and scan.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    whole = tiny_set("whole", people=2)
    assert read_index(whole, read_manifest(whole)).scan is None


@pytest.fixture
def without_region(tiny_recipe) -> ShardRecipe:
    """Four people; region 3 has no data in two, region 5 in one of them."""
    made = tiny_recipe(people=4, dtype="float32")
    raw = Path(made.source.table or "").parent
    for i, column, value in ((1, 2, 7.0), (2, 2, np.nan), (2, 4, 0.0)):
        series = np.load(raw / f"scan-of-{i}-1.npy")
        series[:, column] = value
        np.save(raw / f"scan-of-{i}-1.npy", series)
    return made


def test_a_region_that_half_of_the_scans_lack_is_a_question(
    without_region: ShardRecipe, tmp_path
) -> None:
    line = (
        r"tiny: region 3 \(3\) is missing \(constant, or NaN\) in 2 of 4 scans, 50%; "
        r"connectivity\.drop_regions=\[3\] .*connectivity\.accept_missing=\[3\]"
    )
    shards_unchanged(without_region, line)
    assert not (tmp_path / "shards" / "tiny").exists()


def test_an_accepted_region_stays_as_zeros_and_is_named(
    without_region: ShardRecipe, capsys
) -> None:
    without_region.connectivity.accept_missing = [3]
    manifest = write_shards(without_region)
    assert manifest.missing == ("region 3 (3)", "region 5 (5)")
    (block,) = blocks_of(Path(without_region.shards_dir) / "tiny")
    rows, columns = UPPER
    of_third = (rows == 2) | (columns == 2)
    assert not block.fc[:2, of_third].any() and block.fc[2:, of_third].all()
    assert (
        "tiny: regions without data, of 4 scans: region 3 (3) in 2, region 5 (5) in 1; "
        "model.mask_constant=true leaves them out of attention" in capsys.readouterr().err
    )


def test_a_dropped_region_is_no_region_of_the_set(without_region: ShardRecipe, bold) -> None:
    without_region.connectivity.drop_regions = [3]
    manifest = write_shards(without_region)
    folder = Path(without_region.shards_dir) / "tiny"
    assert verify_shards(folder) == manifest
    assert manifest.atlas.indices == (1, 2, 4, 5, 6)
    assert manifest.atlas.name == "tiny without 3"
    assert manifest.missing == ("region 5 (5)",)
    (block,) = blocks_of(folder)
    kept = [0, 1, 3, 4, 5]
    assert np.array_equal(block.fc[3], pearson(bold(401)[:, kept])[np.triu_indices(5, 1)])


def test_a_number_that_half_precision_cannot_hold_is_refused(tiny_recipe) -> None:
    made = tiny_recipe(people=1, connectivity=ConnectivityConfig(kind="covariance"))
    file = next(Path(made.source.table or "").parent.glob("*.npy"))
    np.save(file, np.full((6, 6), 1e6) + np.eye(6) * 1.0 - np.diag([1e6] * 6))
    made.source.kind = "connectivity"
    shards_unchanged(
        made, r"scan-of-1-1\.npy: 1e\+06 does not fit dtype=float16; set dtype=float32"
    )
    made.dtype = "float32"
    assert write_shards(made).scans == 1


def shards_unchanged(made: ShardRecipe, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_shards(made)


def test_after_a_bad_file_nothing_is_written(tiny_recipe, bold, tmp_path) -> None:
    made = tiny_recipe(people=300)
    np.save(Path(made.source.table or "").parent / "scan-of-300-1.npy", bold(0, regions=5))
    shards_unchanged(made, r"scan-of-300-1\.npy")
    assert list((tmp_path / "shards").iterdir()) == []


def test_after_a_bad_file_the_older_set_is_intact(tiny_recipe, shard_bytes, tmp_path) -> None:
    made = tiny_recipe(people=4)
    write_shards(made)
    before = shard_bytes(tmp_path / "shards")
    (Path(made.source.table or "").parent / "scan-of-4-1.npy").write_bytes(b"")
    shards_unchanged(made, r"scan-of-4-1\.npy")
    assert shard_bytes(tmp_path / "shards") == before


def test_where_the_last_rename_fails_the_older_set_is_put_back(
    tiny_recipe, shard_bytes, tmp_path, monkeypatch
) -> None:
    made = tiny_recipe(people=4)
    write_shards(made)
    before = shard_bytes(tmp_path / "shards")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "set":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    shards_unchanged(made, "No space left on device")
    assert shard_bytes(tmp_path / "shards") == before


def test_a_new_set_takes_the_old_ones_place_wholly(tiny_set, shard_bytes, tmp_path) -> None:
    tiny_set(people=7, shard_scans=2)
    tiny_set(people=3, shard_scans=2)
    assert sorted(shard_bytes(tmp_path / "shards" / "tiny")) == [
        "index.npz",
        "manifest.json",
        "quality.csv",
        "tiny-000000.tar",
        "tiny-000001.tar",
        "tiny.h5",
    ]
    assert [p.name for p in (tmp_path / "shards").iterdir()] == ["tiny"]


def test_a_folder_that_is_no_shard_set_is_left_alone(tiny_recipe, shard_bytes, tmp_path) -> None:
    made = tiny_recipe()
    (tmp_path / "shards" / "tiny").mkdir(parents=True)
    (tmp_path / "shards" / "tiny" / "thesis.tex").write_text("years of work")
    shards_unchanged(made, "holds no shard set; it is left alone")
    assert shard_bytes(tmp_path / "shards") == {"tiny/thesis.tex": b"years of work"}


def test_one_file_listed_for_two_people_is_refused_with_both_rows(
    tmp_path, bold, write_csv, recipe
) -> None:
    np.save(tmp_path / "a.npy", bold(0))
    np.save(tmp_path / "b.npy", bold(1))
    rows = [
        {"file": file, "subject": subject, "sex": "M"}
        for subject, file in (("P00", "a.npy"), ("P01", "b.npy"), ("P10", "a.npy"))
    ]
    table = write_csv(tmp_path / "scans.csv", rows)
    message = r"scans\.csv, row 4 .*subject P10 has the very numbers of subject P00 .*row 2 "
    with pytest.raises(InputError, match=message):
        write_shards(recipe(reader="table", table=table, groups=[]))


def test_a_person_scanned_twice_may_have_one_file_for_both_sessions(
    tmp_path, bold, write_csv, recipe
) -> None:
    """Odd, but nobody can stand on both sides of a split."""
    np.save(tmp_path / "a.npy", bold(0))
    rows = [{"file": "a.npy", "subject": s, "session": s, "sex": "M"} for s in ("1", "01")]
    table = write_csv(tmp_path / "scans.csv", rows)
    assert write_shards(recipe(reader="table", table=table, groups=[])).scans == 2


def test_one_scan_listed_twice_is_refused_with_both_files(tiny_recipe) -> None:
    made = tiny_recipe(people=2)
    table = Path(made.source.table or "")
    table.write_text(table.read_text().replace(",002,", ",1,"))
    shards_unchanged(
        made, r"scan-of-2-1\.npy: the same subject, session and run as .*scan-of-1-1\.npy"
    )


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (
            GroupConfig("diagnosis", labels=["CN", "Autsm"]),
            r"diagnosis is 'Autism', did you mean 'Autsm'\?",
        ),
        (
            GroupConfig("diagnosys"),
            r"no label column 'diagnosys' for group 'diagnosys', did you mean 'diagnosis'\?",
        ),
        (GroupConfig("diagnosis", default="rest"), "default 'rest' is not one of its categories"),
    ],
)
def test_labels_that_the_recipe_does_not_know_are_refused(
    group: GroupConfig, message: str, tiny_recipe
) -> None:
    shards_unchanged(tiny_recipe(groups=[group]), message)


def test_a_set_may_know_sex_and_age_alone(tiny_set) -> None:
    manifest = read_manifest(tiny_set(people=3, groups=[]))
    assert manifest.vocabulary.names == ("sex", "age")


def test_a_set_needs_a_label_and_a_scan(tiny_recipe) -> None:
    shards_unchanged(tiny_recipe(groups=[], sex=False, age=False), "no label at all")
    long = ConnectivityConfig(min_volumes=50)
    shards_unchanged(tiny_recipe(connectivity=long), "no usable scan .*fewer than 50 volumes")


def test_a_set_that_a_kill_between_two_renames_left_aside_is_put_back(
    tiny_set, tiny_recipe
) -> None:
    folder = tiny_set(people=3)
    before = read_manifest(folder)
    folder.rename(folder.with_name(f".{folder.name}.1.old"))
    folder.with_name(f".{folder.name}.1.partial").mkdir()
    recipe = tiny_recipe(people=3)
    recipe.source.table = "nowhere.csv"
    with pytest.raises(InputError, match="nowhere"):
        write_shards(recipe)
    assert read_manifest(folder) == before
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".")] == []
