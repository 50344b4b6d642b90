"""Shard sets that somebody else made, or changed: refused in one line, before memory is taken or a
file outside the folder is touched."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lcm_scale import config
from lcm_scale.config import Recipe
from lcm_scale.data.manifest import read_index, read_manifest
from lcm_scale.data.repair import repair_shards
from lcm_scale.data.sets import open_sets
from lcm_scale.data.stream import ResidentEdges
from lcm_scale.data.verify import decode_record, verify_shards
from lcm_scale.errors import InputError
from lcm_scale.vocabulary import Vocabulary

RELEASE = Path(__file__).parents[1] / "formats" / "0.1.0" / "shards" / "first"
TAR = "first-000000.tar"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RELEASE, tmp_path / "sets" / "first"))


@contextmanager
def little_memory() -> Iterator[None]:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + 2**29
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a manifest as its maker would, with sums that fit."""
    data = json.loads((folder / "manifest.json").read_text())
    change(data)
    parts = [data["format"], data["atlas"]["checksum"]]
    parts += [json.dumps(Vocabulary.from_json(data["vocabulary"]).to_json()), data["index_sha256"]]
    parts += [shard["sha256"] for shard in data["shards"]]
    data["fingerprint"] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    del data["checksum"]
    (folder / "manifest.json").write_text(json.dumps(data))


def put_index(folder: Path, data: bytes) -> None:
    (folder / "index.npz").write_bytes(data)
    edit(folder, lambda d: d.update(index_sha256=hashlib.sha256(data).hexdigest()))


def put_tar(folder: Path, data: bytes) -> None:
    (folder / TAR).write_bytes(data)
    sums = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit(folder, lambda d: d["shards"][0].update(sums))


def opened(folder: Path) -> ResidentEdges:
    recipe = config.load(Recipe, None, ["data=[first]", f"data.shards_dir={folder.parent}"])
    return ResidentEdges(open_sets(recipe.data))


def refused(folder: Path, message: str, use: Callable[[Path], object] = opened) -> None:
    with little_memory(), pytest.raises(InputError, match=message) as caught:
        use(folder)
    assert "\n" not in str(caught.value)


def record(data: dict[str, Any]) -> dict[str, Any]:
    return data["shards"][0]["records"][0]


def test_it_opens_as_it_is(folder: Path) -> None:
    assert opened(folder).edges.shape == (20, 66)
    assert verify_shards(folder).scans == 20


def test_a_record_that_claims_more_scans_than_it_has_bytes_for(folder: Path) -> None:
    """1e11 scans asked for 800 GB before."""

    def claim(data: dict[str, Any]) -> None:
        many = 2**31 - 13
        record(data)["scans"] = many
        data.update(block=many, scans=many + 12)
        data["shards"][0]["scans"] = many + 12

    edit(folder, claim)
    refused(folder, "a record of more scans than it has room for")
    edit_again = json.loads((folder / "manifest.json").read_text())
    record(edit_again)["scans"] = 10**11
    (folder / "manifest.json").write_text(json.dumps(edit_again))
    refused(folder, "counts of scans do not agree|records: scans")


def test_a_manifest_of_larger_files_than_there_are(folder: Path) -> None:
    """Before memory is taken for the scans."""

    def claim(data: dict[str, Any]) -> None:
        size = 10**12
        last = data["shards"][0]["records"][-1]
        last["bytes"] = size
        data["shards"][0]["bytes"] = last["offset"] + size

    edit(folder, claim)
    refused(folder, r"first-000000\.tar: truncated")


@pytest.mark.parametrize(
    "name",
    ["/etc/hostname", "../first/first-000000.tar", "sub/x.tar", "..", ".", "", "a\0b", "a\x1bb"],
)
def test_a_tar_elsewhere_is_refused(name: str, folder: Path) -> None:
    edit(folder, lambda d: d["shards"][0].update(file=name))
    refused(folder, r"manifest\.json: damaged manifest \(shards\[0\]\.file: expected the name of")


@pytest.mark.parametrize("name", [TAR, "index.npz", "manifest.json"])
def test_a_link_that_leads_out_of_the_folder_is_refused(name: str, folder: Path) -> None:
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    refused(folder, rf"{name}: a link that leads out of its folder; put the file itself there")
    refused(folder, "a link that leads out", verify_shards)


def test_links_within_the_folder_and_to_the_folder_are_good(folder: Path) -> None:
    (folder / TAR).rename(folder / "elsewhere.tar")
    (folder / TAR).symlink_to("elsewhere.tar")
    folder.rename(folder.parent / "moved")
    folder.symlink_to(folder.parent / "moved")
    assert opened(folder).edges.shape == (20, 66)


def test_a_link_in_a_circle_is_refused(folder: Path) -> None:
    (folder / TAR).unlink()
    (folder / TAR).symlink_to(TAR)
    refused(folder, rf"{TAR}: (cannot be found|missing)")


def test_an_index_that_unpacks_to_gigabytes_is_refused(folder: Path) -> None:
    """2 MB became 2.4 GB before."""
    with np.load(folder / "index.npz") as archive:
        arrays = dict(archive)
    whole = io.BytesIO()
    np.savez_compressed(whole, **{**arrays, "subject": np.zeros(2**27, np.int32)})
    assert len(whole.getvalue()) < 2**20
    put_index(folder, whole.getvalue())
    refused(folder, r"index\.npz: not what the manifest says \(its arrays (are compressed|unpack)")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("subject", lambda a: a.astype("<i8"), "subject: <i8 of shape"),
        ("subject", lambda a: a[:-1], "subject: <i4 of shape"),
        ("subject", lambda a: a + 1, "subject: expected numbers from 0 to 19"),
        ("subject", lambda a: np.array(3, "<i4"), "subject: <i4 of shape"),
        ("site", lambda a: a + 7, "site: expected numbers from -1"),
        ("site", lambda a: a - 5, "site: expected numbers from -1"),
        ("bei", lambda a: a + 0.5, "bei: a label of diagnosis is not in the vocabulary"),
        ("bei", lambda a: a + 10, "bei: a label of diagnosis is not in the vocabulary"),
        ("bei", lambda a: a * np.inf, "bei: a label"),
        ("bei", lambda a: a.T, "bei: <f4 of shape"),
        ("bei", lambda a: a.astype("<c8"), "bei: <c8 of shape"),
        ("sites", lambda a: np.array([b"x"]), r"sites: \|S1 of shape"),
        ("sites", lambda a: np.array(["\ud800"]), "sites: expected text"),
        ("sites", lambda a: np.full(3, -1, "<i4").view("<U1"), "sites: characters that Unicode"),
        ("volumes", lambda a: a - 10**6, "volumes: expected numbers from 0"),
    ],
)
def test_an_index_that_does_not_fit_its_manifest_is_named(
    name: str, change: Callable[[np.ndarray], np.ndarray], message: str, folder: Path
) -> None:
    with np.load(folder / "index.npz") as archive:
        arrays = dict(archive)
    with np.errstate(invalid="ignore"):
        arrays[name] = change(arrays[name])
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    put_index(folder, packed.getvalue())
    refused(folder, rf"index\.npz: not what the manifest says \({message}")


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"x" * 100])
def test_an_index_that_is_none_is_named(data: bytes, folder: Path) -> None:
    put_index(folder, data)
    refused(folder, r"index\.npz: not what the manifest says")


def tar_of(members: dict[str, bytes], **header: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in header.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def members_of(folder: Path) -> dict[str, bytes]:
    with tarfile.open(folder / TAR) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()[:3]}  # type: ignore[union-attr]


def decoded(folder: Path, data: bytes) -> object:
    return decode_record(data, read_manifest(folder), 8)


def test_a_record_is_read_as_it_was_written(folder: Path) -> None:
    found = decode_record(tar_of(members_of(folder)), read_manifest(folder), 8)
    assert found.fc.shape == (8, 66) and found.bei.shape == (8, 4) and len(found.meta) == 8


def test_a_compressed_record_is_not_unpacked(folder: Path) -> None:
    """webdataset's reader did, and took what it became."""
    bomb = gzip.compress(tar_of({"a.fc.npy": bytes(2**26)}))
    assert len(bomb) < 2**18
    refused(folder, "damaged", lambda place: decoded(place, bomb))


def test_a_sparse_or_linked_member_is_refused(folder: Path) -> None:
    for kind in (tarfile.GNUTYPE_SPARSE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE):
        data = tar_of(members_of(folder), type=kind, linkname="elsewhere")
        refused(folder, "damaged", lambda place, data=data: decoded(place, data))


def test_a_member_of_negative_length_does_not_go_round_for_ever(folder: Path) -> None:
    """CVE-2025-8194."""
    data = bytearray(tar_of(members_of(folder)))
    data[124:136] = b"\xff" * 11 + b"\x00"  # -256, in base 256
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data[:512])
    refused(folder, "damaged", lambda place: decoded(place, bytes(data)))


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("fc.npy", b"\x93NUMPY\x01\x00", "fc.npy: no array"),
        ("bei.npy", b"", "bei.npy: no array"),
        ("meta.json", b"[" * 100_000, "damaged .RecursionError"),
        ("meta.json", b"[]", "meta.json: expected a list of 8"),
        ("meta.json", b"[1, 2, 3, 4, 5, 6, 7, 8]", "meta.json.0.: expected an object"),
        ("meta.json", b"[{}, {}, {}, {}, {}, {}, {}, {}]", "meta.json.0. has no subject"),
    ],
)
def test_a_damaged_member_is_named(member: str, content: bytes, message: str, folder: Path) -> None:
    members = members_of(folder)
    (name,) = (name for name in members if name.endswith(member))
    data = tar_of({**members, name: content})
    refused(folder, message, lambda place: decoded(place, data))


def test_an_array_whose_header_claims_terabytes_takes_none(folder: Path) -> None:
    members = members_of(folder)
    (name,) = (name for name in members if name.endswith("fc.npy"))
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f2", "fortran_order": False, "shape": (10**7, 10**6)}
    )
    data = tar_of({**members, name: buffer.getvalue()})
    refused(folder, r"fc\.npy: <f2 of shape \(10000000, 1000000\)", lambda p: decoded(p, data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["subjects"].__setitem__(0, "../x"), "subjects: expected hashed ids"),
        (lambda d: d["subjects"].__setitem__(0, d["subjects"][1]), "one of them stands twice"),
        (lambda d: d["subjects"].pop(), "subject_ranks"),
        (lambda d: d["subject_ranks"].__setitem__(0, 10**6), "subject_ranks: expected whole"),
        (lambda d: d["subject_ranks"].__setitem__(0, 1), "subject_ranks: expected one for each"),
        (lambda d: d.update(dtype="float64"), "dtype: expected one of float16, float32"),
        (lambda d: d.update(block=0), "block: expected a whole number"),
        (lambda d: d.update(simulated="no"), "simulated: expected true or false"),
        (lambda d: d.update(salt_id=[]), "salt_id: expected text"),
        (lambda d: d["quality"].update(skipped=3), "quality.skipped: expected an object"),
        (lambda d: d["shards"].append(d["shards"][0]), "a file is listed twice"),
        (lambda d: record(d).update(offset=-512), "records: offset: expected whole numbers"),
        (lambda d: record(d).update(bytes=2**60), "records: bytes: expected whole numbers"),
        (lambda d: record(d).update(bytes=True), "records: bytes: expected a list of whole"),
        (lambda d: record(d).pop("key"), "records: one of them has no key"),
    ],
)
def test_a_manifest_that_cannot_be_is_named(
    change: Callable[[dict[str, Any]], Any], message: str, folder: Path
) -> None:
    edit(folder, change)
    refused(folder, rf"manifest\.json: damaged manifest .*{message}", read_manifest)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 1' + "0" * 5000 + "}"])
def test_a_manifest_that_breaks_parsers_is_named(text: str, folder: Path) -> None:
    (folder / "manifest.json").write_text(text)
    refused(folder, r"manifest\.json: damaged manifest \(not valid JSON\)", read_manifest)


def test_an_index_that_is_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "index.npz").unlink()
    os.mkfifo(folder / "index.npz")
    refused(folder, r"index\.npz: missing", lambda p: read_index(p, read_manifest(p)))


# -- the store, from which tars are made anew ------------------------------------------------------


def elsewhere(file: h5py.File, secret: Path) -> None:
    file["fc"] = h5py.ExternalLink(str(secret), "/fc")


def outside(file: h5py.File, secret: Path) -> None:
    file.create_dataset("fc", (8, 15), "float16", external=[(str(secret), 0, 240)])


def virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((8, 15), "float16")
    layout[:] = h5py.VirtualSource(str(secret), "fc", (8, 15))
    file.create_virtual_dataset("fc", layout)


def endless(file: h5py.File, secret: Path) -> None:
    file.create_dataset("fc", (10**12, 15), "float16", chunks=(16, 15))


@pytest.mark.parametrize("put", [elsewhere, outside, virtual, endless])
def test_a_store_that_names_another_file_is_refused(
    put: Callable[[h5py.File, Path], None], tiny_set, tmp_path: Path
) -> None:
    folder = tiny_set(people=8)
    secret = tmp_path / "secret.h5"
    shutil.copy(folder / "tiny.h5", secret)
    with h5py.File(folder / "tiny.h5", "r+") as file:
        del file["fc"]
        put(file, secret)
    (folder / "tiny-000000.tar").unlink()
    refused(
        folder, r"tiny\.h5: fc (is missing, or a link|lies in another|has \d+ scans)", repair_shards
    )


def test_a_store_that_is_a_link_is_refused(tiny_set, tmp_path: Path) -> None:
    folder = tiny_set(people=4)
    (folder / "tiny.h5").rename(tmp_path / "other.h5")
    (folder / "tiny.h5").symlink_to(tmp_path / "other.h5")
    (folder / "tiny-000000.tar").unlink()
    refused(folder, "a link that leads out of its folder", repair_shards)
