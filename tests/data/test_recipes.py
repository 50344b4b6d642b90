"""Each shipped shard recipe on small files in the layout that its source gives them.

Sources, none from memory:
- Folders, file names, first columns, label maps, `*_metadata.csv`, bands and months of ADNI, OASIS,
  HCP-A, HCP-YA, UKB: Chrisa142857/brain_network_decoder, commit 760febc, datasets.py
  (`NeuroNetworkDataset`: DATAROOT, DATANAME, BOLD_FORMAT, LABEL_NAME_P, LABEL_REMAP, `bold2fc`).
- Names of the states of HCP-A and HCP-YA: the same repository, commit cfa2b82, plot_layeri.py.
- Neurocon, Taowu, PPMI, ABIDE by the Auckland collection: tests/data/readers/test_auckland.py.
- Schizophrenia: Chrisa142857/brain_moe, commit c4870ef, datasets.py (`Dataset_SZ`).
- ABIDE by the Preprocessed Connectomes Project: preprocessed-connectomes-project/abide, commit
  fda1ec5, Phenotypic_V1_0b_preprocessed1.csv; a file's first lines as in its public copy
  keanelekenns/brain-network-classification, commit 21b1ec6.
- XCP-D and HALFpipe: tests/data/readers/test_bids.py.
- Eyes: Cavin-Lee/FBN_MR, commit 6a482f5, FUN/BrainNetClass-master/Toydata1 (file names, no header).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from lcm_scale import config
from lcm_scale.atlas import load_atlas
from lcm_scale.config import ShardRecipe
from lcm_scale.data.manifest import ShardManifest, read_index
from lcm_scale.data.shards import write_shards

RECIPES = Path(__file__).parents[2] / "recipes" / "data"
AAL = load_atlas("aal116")


@pytest.fixture
def scan(bold) -> Callable[..., None]:
    """`scan(path, 1, regions=160, separator=" ", header=[...])`: a file of 40 volumes."""

    def write(
        path: Path,
        seed: int,
        regions: int = 116,
        separator: str = ",",
        header: Sequence[str] = (),
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(
            path,
            bold(seed, regions=regions),
            fmt="%.4f",
            delimiter=separator,
            header=separator.join(header),
            comments="",
        )

    return write


@pytest.fixture
def shipped(tmp_path: Path) -> Callable[..., tuple[ShardManifest, dict[str, list[Any]]]]:
    """`shipped("adni", dir=...)` -> the written set's manifest, and target -> words, by scan."""

    def write(name: str, **source: Any) -> tuple[ShardManifest, dict[str, list[Any]]]:
        overrides = [f"source.{key}={value}" for key, value in source.items()]
        recipe = config.load(
            ShardRecipe, RECIPES / f"{name}.yaml", [*overrides, f"shards_dir={tmp_path}/shards"]
        )
        manifest = write_shards(recipe)
        index = read_index(tmp_path / "shards" / manifest.name, manifest)
        labels: dict[str, list[Any]] = {}
        for column, target in enumerate(manifest.vocabulary.targets):
            values = index.bei[:, column].tolist()
            labels[target.name] = [
                None
                if value != value
                else target.categories[int(value)]
                if target.is_class
                else value
                for value in values
            ]
        return manifest, labels

    return write


def metadata(path: Path, rows: Mapping[str, tuple[str, str]], write_csv) -> Path:
    return write_csv(
        path, [{"Subject": s, "Sex": sex, "Age": age} for s, (sex, age) in rows.items()]
    )


def test_adni_maps_five_stages_onto_two(scan, shipped, write_csv, tmp_path) -> None:
    folder = tmp_path / "ADNI_BOLD_SC/AAL_116/BOLD"
    alphabetical = sorted(AAL.names)
    for i, stage in enumerate(("CN", "SMC", "EMCI", "LMCI", "AD", "MCI")):
        scan(folder / f"sub-00{i}S_bold_{stage}.csv", i, header=alphabetical)
    table = metadata(tmp_path / "ADNI_metadata.csv", {"sub-000S": ("F", "71.5")}, write_csv)
    manifest, labels = shipped("adni", dir=folder, table=table)
    assert labels["diagnosis"] == ["CN", "CN", "CN", "AD", "AD"]
    assert (labels["sex"][0], labels["age"][0]) == ("F", 71.5)
    assert manifest.quality["skipped"] == {"file name that source.names does not fit": 1}
    assert manifest.connectivity["window"] == 500


def test_regions_in_alphabetical_order_are_brought_into_the_atlass(
    scan, shipped, bold, tmp_path
) -> None:
    folder = tmp_path / "BOLD"
    order = np.argsort(AAL.names)
    scan(folder / "sub-1_AD.csv", 3, header=[AAL.names[i] for i in order])
    scan(folder / "sub-2_CN.csv", 4, header=AAL.names)
    shipped("adni", dir=folder)
    with h5py.File(tmp_path / "shards/adni/adni.h5") as file:
        first = file["fc"][0]
    written = np.empty((40, 116))
    written[:, order] = np.round(bold(3, regions=116), 4)
    expected = np.corrcoef(written, rowvar=False)[np.triu_indices(116, 1)]
    assert np.abs(first - expected).max() < 2e-3


def test_oasis_is_plain_text_of_160_regions(scan, shipped, tmp_path) -> None:
    folder = tmp_path / "OASIS_BOLD_SC/D_160/BOLD"
    for i, label in enumerate(("CN", "AD")):
        scan(folder / f"OAS3000{i}_MR_d0129_{label}.txt", i, 160, " ")
    manifest, labels = shipped("oasis", dir=folder)
    assert labels == {"diagnosis": ["CN", "AD"]}
    assert manifest.atlas.n_regions == 160


def test_hcp_a_has_four_states_a_person_and_ages_in_months(
    scan, shipped, write_csv, tmp_path
) -> None:
    folder = tmp_path / "HCP-A-SC_FC/AAL_116/BOLD"
    for i, state in enumerate(("REST", "CARIT", "FACENAME", "VISMOTOR")):
        scan(folder / f"sub-6005_task-{state}_dir-AP_bold.csv", i, header=AAL.names)
    table = metadata(tmp_path / "HCPA_metadata.csv", {"sub-6005": ("F", "876")}, write_csv)
    manifest, labels = shipped("hcp_a", dir=folder, table=table)
    assert (manifest.scans, len(manifest.subjects)) == (4, 1)
    assert sorted(labels["state"]) == ["task-CARIT", "task-FACENAME", "task-REST", "task-VISMOTOR"]
    assert labels["age"] == [73.0] * 4
    assert manifest.vocabulary["state"].default == "task-REST"


def test_hcp_ya_has_seven_tasks_and_ages_in_bands(scan, shipped, write_csv, tmp_path) -> None:
    folder = tmp_path / "HCP-YA-SC_FC/AAL_116/BOLD"
    for i, run in enumerate(("task-WM_LR", "task-WM_RL", "task-SOCIAL_LR")):
        scan(folder / f"100307_{run}.csv", i, header=AAL.names)
    table = metadata(tmp_path / "HCPYA_metadata.csv", {"100307": ("F", "26-30")}, write_csv)
    manifest, labels = shipped("hcp_ya", dir=folder, table=table)
    assert labels["state"] == ["task-SOCIAL", "task-WM", "task-WM"]
    assert labels["age"] == [28.0] * 3
    assert len(manifest.vocabulary["state"].labels) == 7


def test_ukb_names_the_state_in_the_third_field(scan, shipped, tmp_path) -> None:
    folder = tmp_path / "UKB-SC-FC/Gordon_333/BOLD"
    header = load_atlas("gordon333").names
    for i, state in enumerate(("a", "b")):
        scan(folder / f"sub-100002{i}_ses-2_task-{state}_bold.tsv", i, 333, "\t", header)
    manifest, labels = shipped("ukb", dir=folder)
    assert labels["state"] == ["task-a", "task-b"]
    assert manifest.atlas.n_regions == 333


def test_schizophrenia_is_told_by_the_folder_and_leaves_nonconverters_out(
    scan, shipped, tmp_path
) -> None:
    for i, group in enumerate(("Unaffected2", "Converters2", "Nonconverters2")):
        scan(tmp_path / "SZ" / group / f"ROI_{i}.txt", i, separator=" ")
    manifest, labels = shipped("schizophrenia", dir=tmp_path / "SZ")
    assert labels == {"diagnosis": ["CN", "SZ"]}
    assert manifest.quality["skipped"] == {"file name that source.names does not fit": 1}


@pytest.mark.parametrize(
    ("name", "groups", "kind", "words"),
    [
        ("neurocon", ("control", "patient"), "pearson", ["CN", "PD"]),
        ("taowu", ("control", "patient"), "pearson", ["CN", "PD"]),
        ("auckland_abide", ("control", "patient"), "ledoit-wolf", ["CN", "Autism"]),
        (
            "ppmi",
            ("control", "patient", "prodromal", "swedd"),
            "ledoit-wolf",
            ["CN", "PD", "prodromal", "SWEDD"],
        ),
    ],
)
def test_the_auckland_collection_says_the_diagnosis_in_its_folders(
    name: str,
    groups: Sequence[str],
    kind: str,
    words: list[str],
    shipped,
    bold,
    write_csv,
    tmp_path,
) -> None:
    folder = tmp_path / name
    for i, group in enumerate(groups):
        place = folder / f"sub-{group}{i + 1}"
        place.mkdir(parents=True)
        series = bold(i, 150, 116)
        for what, values in (
            ("features_timeseries", series),
            ("correlation_matrix", np.corrcoef(series, rowvar=False)),
        ):
            scipy.io.savemat(place / f"{place.name}_AAL116_{what}.mat", {"data": values})
    metadata(tmp_path / f"{name.upper()}_metadata.csv", {"1": ("F", "64")}, write_csv)
    manifest, labels = shipped(name, dir=folder)
    assert labels["diagnosis"] == words
    assert (labels["sex"][0], labels["age"][0]) == ("F", 64.0)
    assert manifest.connectivity["kind"] == kind


def test_xcpd_takes_one_atlas_at_rest(scan, shipped, write_csv, tmp_path) -> None:
    folder = tmp_path / "ds" / "derivatives" / "xcp_d"
    header = load_atlas("gordon333").names
    for i in (1, 2):
        func = folder / f"sub-0{i}" / "func"
        for task, entity in (("rest", "seg-Gordon"), ("rest", "seg-Tian"), ("nback", "seg-Gordon")):
            name = f"sub-0{i}_task-{task}_space-fsLR_{entity}_stat-mean_timeseries.tsv"
            scan(func / name, i, 333, "\t", header)
    rows = [{"participant_id": f"sub-0{i}", "age": 20, "group": "ab"[i - 1]} for i in (1, 2)]
    write_csv(tmp_path / "ds" / "participants.tsv", rows)
    manifest, labels = shipped("xcpd", dir=folder)
    assert (manifest.scans, manifest.atlas.n_regions) == (2, 333)
    assert labels == {"group": ["a", "b"], "age": [20.0, 20.0]}


def test_halfpipe_takes_one_feature(scan, shipped, write_csv, tmp_path) -> None:
    folder = tmp_path / "derivatives" / "halfpipe"
    for i in (1, 2):
        func = folder / f"sub-{i}" / "func" / "task-rest"
        for number in (1, 2):
            stem = f"sub-{i}_task-rest_feature-corrMatrix{number}_atlas-schaefer400"
            scan(func / f"{stem}_timeseries.tsv", i, 434, "\t")
    write_csv(
        tmp_path / "participants.tsv", [{"participant_id": f"sub-{i}", "sex": "F"} for i in (1, 2)]
    )
    manifest, labels = shipped("halfpipe", dir=folder)
    assert (manifest.scans, manifest.atlas.n_regions) == (2, 434)
    assert labels == {"sex": ["F", "F"]}


def test_eyes_are_two_states_of_one_person(scan, shipped, tmp_path) -> None:
    for i, name in enumerate(("EC01", "EO01", "EC02", "EO02")):
        scan(tmp_path / "eyes" / f"ROISignals_{name}.txt", i, separator="\t")
    manifest, labels = shipped("eyes", dir=tmp_path / "eyes")
    assert (manifest.scans, len(manifest.subjects)) == (4, 2)
    assert labels == {"eye_status": ["closed", "open", "closed", "open"]}


def test_abide_has_its_scores_and_words(scan, shipped, write_csv, tmp_path) -> None:
    codes = [str(index) for index in AAL.indices]
    rows = []
    for i, (hand, fiq) in enumerate((("R", "103"), ("Ambi", "-9999"), ("-9999", ""))):
        file = f"Pitt_005000{i}"
        scan(tmp_path / "abide" / f"{file}_rois_aal.1D", i, separator="\t", header=codes)
        rows.append(
            {
                "SUB_ID": 50000 + i,
                "SITE_ID": "PITT",
                "FILE_ID": file,
                "DX_GROUP": 1 + i % 2,
                "AGE_AT_SCAN": 20,
                "SEX": 1,
                "HANDEDNESS_CATEGORY": hand,
                "FIQ": fiq,
                "VIQ": 100,
                "PIQ": 100,
                "EYE_STATUS_AT_SCAN": 1,
                "func_mean_fd": 0.1,
            }
        )
    write_csv(tmp_path / "abide" / "pheno.csv", rows)
    manifest, labels = shipped("abide", dir=tmp_path / "abide")
    assert labels["handedness"] == ["right", "mixed", None]
    assert labels["fiq"] == [103.0, None, None]
    assert labels["diagnosis"] == ["Autism", "CN", "Autism"]
    assert manifest.vocabulary.names[-5:] == ("sex", "age", "fiq", "viq", "piq")
