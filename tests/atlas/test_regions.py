"""Atlases: order is data; a region is its index."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_scale.atlas import Atlas, edge_order, load_atlas, numbered
from lcm_scale.errors import InputError

ABC = Atlas("abc", (1, 2, 3), ("left", "right", "right"))


def test_aal116_is_the_order_of_the_published_files() -> None:
    atlas = load_atlas("aal116")
    assert (atlas.n_regions, atlas.n_edges) == (116, 6670)
    assert (atlas.indices[0], atlas.indices[-1]) == (2001, 9170)
    assert list(atlas.indices) == sorted(atlas.indices)
    assert (atlas.label(0), len(atlas.networks), len(atlas.coordinates)) == (
        "Precentral_L (2001)",
        116,
        116,
    )


def test_left_and_right_regions_lie_on_their_sides() -> None:
    atlas = load_atlas("aal116")
    for name, (x, _, _) in zip(atlas.names, atlas.coordinates, strict=True):
        assert (x < 0) == name.endswith("_L") or not name.endswith(("_L", "_R"))


@pytest.mark.parametrize(
    "other",
    [
        Atlas("abc", (2, 1, 3), ("right", "left", "right")),
        Atlas("abc", (1, 2, 3), ("left", "right", "middle")),
    ],
    ids=["order", "name"],
)
def test_checksum_changes_with_order_and_names(other: Atlas) -> None:
    assert other.checksum != ABC.checksum


def test_checksum_is_not_the_name() -> None:
    assert Atlas("other name", ABC.indices, ABC.names).checksum == ABC.checksum


@given(st.integers(2, 9).flatmap(lambda n: st.permutations(range(n))))
def test_reordering_edges_is_reordering_the_matrix(positions: list[int]) -> None:
    n = len(positions)
    matrix = np.arange(n * n).reshape(n, n)
    matrix = matrix + matrix.T
    upper = np.triu_indices(n, 1)
    assert np.array_equal(
        matrix[np.ix_(positions, positions)][upper], matrix[upper][edge_order(positions)]
    )


def test_an_atlas_without_some_regions_keeps_the_others_order_and_facts() -> None:
    atlas = load_atlas("aal116")
    less = atlas.without([9170, 2001])
    assert less.indices == atlas.indices[1:-1] and less.names == atlas.names[1:-1]
    assert less.coordinates == atlas.coordinates[1:-1] and less.networks == atlas.networks[1:-1]
    assert less.name == "aal116 without 2001, 9170"
    assert atlas.without([]) is atlas
    with pytest.raises(InputError, match="atlas abc: no region has the index 7"):
        ABC.without([7])


def test_regions_are_matched_by_index_though_names_repeat() -> None:
    other = Atlas("cab", (3, 1, 2), ("right", "left", "right"))
    positions = ABC.order_from(other)
    assert positions.tolist() == [1, 2, 0]
    assert tuple(other.indices[p] for p in positions) == ABC.indices


@pytest.mark.parametrize(
    "other",
    [
        numbered("more", 4),
        numbered("less", 2),
        Atlas("else", (1, 2, 4), ("a", "b", "c")),
        Atlas("names", (1, 2, 3), ("left", "right", "middle")),
    ],
)
def test_other_regions_cannot_be_brought_into_order(other: Atlas) -> None:
    with pytest.raises(InputError, match="only data of one atlas can be mixed"):
        ABC.order_from(other)


def test_json_and_back_is_the_same_atlas() -> None:
    atlas = load_atlas("aal116")
    assert Atlas.from_json(atlas.to_json()) == atlas


def test_edited_regions_no_longer_fit_their_checksum() -> None:
    data = ABC.to_json()
    data["names"] = ["right", "left", "right"]
    with pytest.raises(InputError, match="edited"):
        Atlas.from_json(data)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"indices": (1, 1, 2)}, "index occurs twice"),
        ({"names": ("a", "b")}, "2 names for 3 regions"),
        ({"networks": ("a",)}, "1 networks for 3 regions"),
        ({"coordinates": ((0.0, 0.0, 0.0),)}, "1 coordinates for 3 regions"),
    ],
)
def test_an_atlas_that_contradicts_itself_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Atlas(  # type: ignore[arg-type]
            **({"name": "x", "indices": (1, 2, 3), "names": ("a", "b", "c")} | keys)
        )


@pytest.mark.parametrize("mark", ["\t", ","])
def test_an_atlas_file_has_optional_networks_and_coordinates(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    rows = [
        ["index", "name", "network", "x", "y", "z"],
        ["7", "A", "DMN", "-1", "2", "3.5"],
        ["3", "B", "VIS", "1", "2", "3"],
    ]
    path.write_text("\n".join(mark.join(row) for row in rows))
    atlas = load_atlas(str(path))
    assert (atlas.name, atlas.indices, atlas.networks) == ("mine", (7, 3), ("DMN", "VIS"))
    assert atlas.coordinates[0] == (-1.0, 2.0, 3.5)


@pytest.mark.parametrize("mark", ["\t", ","])
def test_the_columns_of_xcp_d_are_read_as_ours(mark: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.tsv", tmp_path / "theirs.tsv"
    rows = [["1", "LH_Vis_1", "Vis"], ["2", "Thalamus", "n/a"]]
    for path, header in ((ours, "index,name,network"), (theirs, "index,label,network_label")):
        path.write_text("\n".join(mark.join(row) for row in [header.split(","), *rows]))
    one, other = load_atlas(str(ours)), load_atlas(str(theirs))
    assert (one.names, one.networks) == (("LH_Vis_1", "Thalamus"), ("Vis", ""))
    assert (one.indices, one.names, one.networks) == (other.indices, other.names, other.networks)


def test_a_table_with_both_words_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "both.csv").write_text("label,index,name\nx,1,A\ny,2,B\n")
    assert load_atlas(str(tmp_path / "both.csv")).names == ("A", "B")


def test_a_copy_of_a_built_in_table_is_read_with_its_comments(tmp_path: Path) -> None:
    table = resources.files("lcm_scale.atlas") / "built_in" / "gordon333.tsv"
    (tmp_path / "mine.tsv").write_text(table.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_atlas(str(tmp_path / "mine.tsv")).checksum == load_atlas("gordon333").checksum


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "\n",
        "number,name\n1,A\n",
        "index,name\n",
        "index,name\nx,A\n",
        "\xff",
        "index,name,x,y\n1,A,1,2\n",
    ],
)
def test_a_file_that_is_no_atlas_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"bad\.csv"):
        load_atlas(str(tmp_path / "bad.csv"))


def test_a_name_and_a_number_are_an_atlas_without_names() -> None:
    atlas = load_atlas("aal2:94")
    assert (atlas.name, atlas.n_regions, atlas.indices[-1]) == ("aal2", 94, 94)


def test_an_unknown_atlas_says_what_there_is() -> None:
    with pytest.raises(InputError, match=r"neither built in \(aal94, .* to schaefer1000-17\)"):
        load_atlas("aal117")
