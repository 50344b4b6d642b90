"""A private part of a library is used deliberately: it stands in the table (conftest.py), and the
library has an upper bound that the pinned version keeps."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LIBRARIES = ("torch", "lightning", "deepspeed", "huggingface_hub", "webdataset")


def test_every_private_part_that_the_package_uses_stands_in_the_table(
    parts: dict[str, Any], used: dict[str, set[str]]
) -> None:
    new = {name: sorted(files) for name, files in used.items() if name not in parts}
    assert not new, (
        f"private parts of a library that tests/contracts/conftest.py does not list: {new}; use a "
        "public way, or list each with the reason why there is none, and test what it must do"
    )


def test_the_table_lists_nothing_that_is_no_longer_used(
    parts: dict[str, Any], used: dict[str, set[str]]
) -> None:
    assert not set(parts) - set(used), "no longer used: take them out of tests/contracts"


def test_the_table_knows_the_libraries_that_are_bounded(parts: dict[str, Any]) -> None:
    assert {part.library for part in parts.values()} == set(LIBRARIES)
    assert all(part.why for part in parts.values())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import torch\ntorch._fused_lamb_(x)", "_fused_lamb_"),
        ("torch.ops.aten.gelu_backward(x)", "gelu_backward"),
        ("class A:\n    def f(self):\n        return super()._save()", "_save"),
        ("class A(Library):\n    def f(self):\n        return self._theirs", "_theirs"),
        ("from torch.utils._pytree import tree_map", "tree_map"),
        ("from library import _hidden", "_hidden"),
        ("from deepspeed.runtime.zero import utils", "utils"),
        ("hasattr(torch, '_new_op')", "_new_op"),
        ("self.zero.averaged_gradients", "averaged_gradients"),
        ("wds.filters.pipelinefilter", "filters"),
    ],
)
def test_a_new_private_part_is_seen(
    source: str, name: str, found_in: Callable[[str], set[str]]
) -> None:
    assert found_in(source) == {name}


def test_what_is_the_packages_own_or_pythons_is_no_librarys(
    found_in: Callable[[str], set[str]],
) -> None:
    own = "class A:\n    def _mine(self):\n        self._kept = self.__dict__\n"
    use = "    def f(self):\n        self._mine(), self._kept, type(self).__name__\n"
    assert found_in(own + use) == set()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_with_private_parts_in_use_has_an_upper_bound(library: str) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"] + setup["options.extras_require"]["deepspeed"]
    required = {
        r.name: r.specifier
        for r in (Requirement(line) for line in lines.split("\n") if line and line[0] != "#")
    }
    bounds = required[library]
    assert any(bound.operator == "<" for bound in bounds), f"setup.cfg: {library}{bounds}"
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (pinned,) = (line.split("==")[1] for line in pins if line.startswith(f"{library}=="))
    assert pinned in bounds
    try:
        assert metadata.version(library) in bounds
    except metadata.PackageNotFoundError:
        assert library == "deepspeed", "only an extra may be missing"
