"""repair: what was lost comes back byte for byte, from the store, or nothing is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from lcm_scale.data.repair import repair_shards
from lcm_scale.data.verify import verify_shards
from lcm_scale.errors import InputError


@pytest.fixture
def folder(tiny_set) -> Path:
    """Three tars; several scans a person, so that sessions decide the order too."""
    return tiny_set(people=10, block=2, shard_scans=4)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "all"])
def test_damaged_tars_come_back_byte_for_byte(damage: str, folder: Path) -> None:
    whole = contents(folder)
    tars = sorted(folder.glob("*.tar"))
    assert len(tars) == 3
    data = bytearray(tars[1].read_bytes())
    if damage == "flip":
        data[700] ^= 1
        tars[1].write_bytes(data)
    elif damage == "cut":
        tars[1].write_bytes(data[:900])
    else:
        for tar in tars if damage == "all" else [tars[1]]:
            tar.unlink()
    names = [tar.name for tar in tars]
    assert repair_shards(folder) == tuple(names if damage == "all" else names[1:2])
    assert contents(folder) == whole
    verify_shards(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_whole_set_is_left_alone_even_without_a_store(folder: Path) -> None:
    (folder / "tiny.h5").unlink()
    assert repair_shards(folder) == ()


@pytest.mark.parametrize("what", ["absent", "cut", "no column", "fewer scans", "other values"])
def test_a_store_that_cannot_help_is_named_and_nothing_is_touched(what: str, folder: Path) -> None:
    store, tar = folder / "tiny.h5", folder / "tiny-000001.tar"
    tar.write_bytes(b"damaged")
    if what == "absent":
        store.unlink()
    elif what == "cut":
        store.write_bytes(store.read_bytes()[:500])
    else:
        with h5py.File(store, "r+") as file:
            if what == "no column":
                del file["scans/session"]
            elif what == "fewer scans":
                for column in [file["fc"], *file["scans"].values(), *file["labels"].values()]:
                    column.resize(len(column) - 1, axis=0)
            else:
                file["fc"][:] = file["fc"][:] / 2
    before = contents(folder)
    with pytest.raises(InputError, match=r"tiny\.h5: .*shard the data again") as caught:
        repair_shards(folder)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_verb_says_what_it_did(folder: Path) -> None:
    (folder / "tiny-000000.tar").unlink()
    command = [sys.executable, "-m", "lcm_scale.cli", "repair", str(folder)]
    for words in ("byte for byte: tiny-000000.tar", "every tar is whole"):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert words in done.stdout
