"""verify: every kind of damage is found and the file named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcm_scale.data.manifest import ShardManifest, read_manifest
from lcm_scale.data.verify import verify_shards
from lcm_scale.errors import InputError


@pytest.fixture
def folder(tiny_set) -> Path:
    """Two tars of two records."""
    return tiny_set(people=8, block=2, shard_scans=4)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads((folder / "manifest.json").read_text())
    change(data)
    data.pop("checksum")  # over all of it, so that no finer check would be reached
    (folder / "manifest.json").write_text(json.dumps(data))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        verify_shards(folder)
    assert "\n" not in str(caught.value)


def test_an_intact_set_passes(folder: Path) -> None:
    assert verify_shards(folder) == read_manifest(folder)


def test_manifest_and_json_are_the_same(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert ShardManifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


@pytest.mark.parametrize("keep", [0, 1, 1000, -1])
def test_a_truncated_tar_is_named(keep: int, folder: Path) -> None:
    path = folder / "tiny-000001.tar"
    path.write_bytes(path.read_bytes()[:keep])
    refused(folder, r"tiny-000001\.tar: truncated: \d+ bytes, the manifest says \d+")


def test_a_tar_that_grew_is_named(folder: Path) -> None:
    with (folder / "tiny-000000.tar").open("ab") as handle:
        handle.write(b"\0")
    refused(folder, r"tiny-000000\.tar: too long")


@pytest.mark.parametrize("place", [100, 700, 2000, -1])
def test_one_flipped_bit_is_found(place: int, folder: Path) -> None:
    path = folder / "tiny-000001.tar"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    refused(folder, r"tiny-000001\.tar: damaged: its SHA-256")


def test_a_missing_tar_is_named(folder: Path) -> None:
    (folder / "tiny-000001.tar").unlink()
    refused(folder, r"tiny-000001\.tar: missing, the manifest lists it")


def test_two_tars_that_changed_places_are_found(folder: Path) -> None:
    a, b = folder / "tiny-000000.tar", folder / "tiny-000001.tar"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    refused(folder, r"tiny-00000\d\.tar: ")


def test_an_edited_index_is_named(folder: Path) -> None:
    with np.load(folder / "index.npz") as archive:
        arrays = dict(archive)
    arrays["bei"][0, 0] = 2
    np.savez(folder / "index.npz", **arrays)
    refused(folder, r"index\.npz: SHA-256 differs")


def test_a_missing_index_is_named(folder: Path) -> None:
    (folder / "index.npz").unlink()
    refused(folder, r"index\.npz: missing")


def rename_category(data: dict[str, Any]) -> None:
    data["vocabulary"][0]["categories"] = ["N/A", "CN", "Autism"]


def swap_regions(data: dict[str, Any]) -> None:
    data["atlas"]["names"][:2] = reversed(data["atlas"]["names"][:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(scans=7), "counts of scans do not agree"),
        (lambda d: d["shards"].pop(), "fingerprint"),
        (lambda d: d["subjects"].reverse(), "subjects differ from index"),
        (lambda d: d["shards"][0].update(sha256="0" * 64), "fingerprint"),
        (lambda d: d["shards"][1]["records"][0].update(offset=512), "its records overlap"),
        (lambda d: d["shards"][0]["records"][0].update(scans=1), "counts of scans do not agree"),
        (lambda d: d["shards"][1]["records"].pop(), "counts of scans do not agree"),
        (lambda d: d.update(dtype="float32"), r"fc\.npy: <f2 of shape \(2, 15\), not <f4"),
        (swap_regions, "checksum does not fit its regions"),
        (rename_category, "fingerprint"),
        (lambda d: d.update(fingerprint="0" * 16), "fingerprint"),
        (lambda d: d.pop("vocabulary"), "damaged manifest .*vocabulary"),
        (lambda d: d.update(shards=3), "damaged manifest"),
        (
            lambda d: d.update(format="lcm-scale-shards/9"),
            "format 'lcm-scale-shards/9', this version reads",
        ),
    ],
)
def test_an_edited_manifest_is_refused(
    change: Callable[[dict[str, Any]], Any], message: str, folder: Path
) -> None:
    edit(folder, change)
    refused(folder, message)


def test_a_flipped_bit_in_a_persons_hash_is_found(folder: Path) -> None:
    file = folder / "manifest.json"
    text, subject = file.read_text(), read_manifest(folder).subjects[3]
    file.write_text(text.replace(subject, ("0" if subject[0] != "0" else "1") + subject[1:]))
    refused(folder, "does not fit what it lists")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"text"', b"null"])
def test_a_manifest_that_is_none_is_named(content: bytes, folder: Path) -> None:
    (folder / "manifest.json").write_bytes(content)
    refused(folder, r"manifest\.json: damaged manifest")


def test_a_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", r"nowhere: no manifest\.json")


def test_a_fingerprint_follows_scans_labels_and_regions_alone(tiny_set, atlas_file) -> None:
    def mark(*args: Any, **keys: Any) -> str:
        return read_manifest(tiny_set(*args, **keys)).fingerprint

    one = mark("tiny", people=4)
    assert mark("tiny", people=4, notes=["another note"]) == one
    assert mark("tiny", people=5) != one
    assert mark("tiny", people=4, labels=["CN", "PD"]) != one
    assert mark("tiny", people=4, atlas=atlas_file([2, 1, 3, 4, 5, 6])) != one
