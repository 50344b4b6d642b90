"""fMRIPrep's images through a label image, on small trees in fMRIPrep's layouts, against nilearn
called by hand.

Where the layouts come from:
- Names since 1.2 and what lies beside an image: OpenNeuroDerivatives/ds000228-fmriprep at
  96c50210a2 (fMRIPrep 21.0.2), sub-pixar001/func; its JSON says RepetitionTime.
- `_regressors` until 20.1: nilearn 0.14.1, nilearn/interfaces/fmriprep/load_confounds_utils.py.
- Columns and JSON of the confounds: a real table that nilearn 0.14.1 carries,
  nilearn/interfaces/fmriprep/data/test-v21_desc-confounds_timeseries.tsv.
- Names and columns before 1.2 (X, Y, Z, RotX, GlobalSignal, aCompCor01): a lesson on ds000030,
  carpentries-incubator/SDC-BIDS-fMRI at 3508f3e9beaba5c8b9a5be050c2d5f1330bd4e8d,
  _episodes/05-data-cleaning-with-nilearn.md. FramewiseDisplacement: headers that scripts of that time
  quote; only the mean displacement is taken from it, where it is there.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

nilearn = pytest.importorskip("nilearn")
nibabel = pytest.importorskip("nibabel")

import nilearn.interfaces.fmriprep as theirs  # noqa: E402
from nilearn.maskers import NiftiLabelsMasker  # noqa: E402

from lcm_scale.atlas import load_atlas  # noqa: E402
from lcm_scale.config import CleanConfig, ConnectivityConfig, StrategyConfig  # noqa: E402
from lcm_scale.data.cleaning import TAKES, Cleaned, check_cleaning, clean  # noqa: E402
from lcm_scale.data.connectivity import arranged, check_connectivity, pearson  # noqa: E402
from lcm_scale.data.readers import READERS, images  # noqa: E402
from lcm_scale.data.recordings import Recording, Unread  # noqa: E402
from lcm_scale.data.shards import write_shards  # noqa: E402
from lcm_scale.errors import InputError  # noqa: E402

REGIONS = 6  # of the fixture `recipe`'s atlas
VOLUMES = 90
SPACE = "space-MNI152NLin2009cAsym_res-2"
GRID = np.diag([2.0, 2.0, 2.0, 1.0])
REAL = Path(theirs.__file__).parent / "data" / "test-v21_desc-confounds_timeseries.tsv"


def put_image(path: Path, values: np.ndarray, affine: np.ndarray = GRID, tr: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    if tr:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
        image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def bold_image(seed: int, volumes: int = VOLUMES) -> np.ndarray:
    """(6, 6, 6, T) voxels about 1000 that share a part by region."""
    rng = np.random.default_rng(seed)
    shared = np.repeat(rng.standard_normal((6, 1, 1, volumes)), 6, 1).repeat(6, 2)
    return 1000 + 10 * shared + 5 * rng.standard_normal((6, 6, 6, volumes))


def put_confounds(table: Path, seed: int, volumes: int = VOLUMES) -> Path:
    """Noise under the columns of fMRIPrep 21; two volumes before the steady state; a jump in
    framewise displacement at volumes 40 and 60."""
    rng = np.random.default_rng(seed)
    names = REAL.read_text().split("\n", 1)[0].split("\t")
    values = {name: rng.standard_normal(volumes) for name in names}
    for number, name in enumerate(name for name in names if name.startswith("non_steady")):
        values[name] = np.eye(volumes)[number]
    for number, name in enumerate(name for name in names if name.startswith("motion_outlier")):
        values[name] = np.eye(volumes)[10 + number]
    values["framewise_displacement"] = np.full(volumes, 0.1)
    values["framewise_displacement"][[40, 60]] = 0.9
    values["std_dvars"] = np.full(volumes, 1.0)
    lines = ["\t".join(names)]
    for row in range(volumes):
        cells = [
            "n/a"
            if row == 0 and ("derivative1" in n or n == "framewise_displacement")
            else f"{values[n][row]:.6f}"
            for n in names
        ]
        lines.append("\t".join(cells))
    table.write_text("\n".join(lines) + "\n")
    table.with_suffix(".json").write_text(REAL.with_suffix(".json").read_text())
    return table


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A label image on a finer, shifted grid, a region a pair of planes, in no order: a mean of two
    neighbours would be another region."""
    values = np.full((13, 13, 13), 5, dtype=np.int16)
    for place, region in enumerate((1, 4, 2, 6, 3, 5)):
        values[2 * place : 2 * place + 2] = region
    name = "tpl-MNI152NLin2009cAsym_res-01_atlas-X_dseg.nii.gz"
    shifted = np.eye(4)
    shifted[:3, 3] = -1.3
    return put_image(tmp_path / "atlas" / name, values, shifted)


@pytest.fixture
def tree(tmp_path: Path, write_csv) -> Path:
    """Two people, one of them with two sessions; images in a template's and in their own space."""
    folder = tmp_path / "ds" / "derivatives" / "fmriprep"
    for number, (subject, session) in enumerate((("01", "ses-a_"), ("01", "ses-b_"), ("02", ""))):
        func = folder / f"sub-{subject}" / session.strip("_") / "func"
        stem = f"sub-{subject}_{session}task-rest"
        image = put_image(func / f"{stem}_{SPACE}_desc-preproc_bold.nii.gz", bold_image(number))
        image.with_name(image.name.replace(".nii.gz", ".json")).write_text(
            json.dumps({"RepetitionTime": 2.0, "SkullStripped": False})
        )
        put_image(func / f"{stem}_desc-preproc_bold.nii.gz", bold_image(number))
        put_image(func / f"{stem}_{SPACE}_boldref.nii.gz", bold_image(number)[..., 0])
        put_image(
            func / f"{stem}_{SPACE}_desc-brain_mask.nii.gz", np.ones((6, 6, 6), dtype=np.uint8)
        )
        put_confounds(func / f"{stem}_desc-confounds_timeseries.tsv", number)
    people = [
        {"participant_id": "sub-01", "age": 34, "sex": "M", "group": "read"},
        {"participant_id": "sub-02", "age": "n/a", "sex": "F", "group": "write"},
        {"participant_id": "sub-03", "age": 50, "sex": "F", "group": "write"},
    ]
    write_csv(tmp_path / "ds" / "participants.tsv", people)
    return folder


@pytest.fixture
def made(recipe, labels) -> Callable[..., Any]:
    def make(folder: Path, **keys: Any) -> Any:
        keys = {"entities": {"space": "MNI152*"}, "labels_image": labels, **keys}
        return recipe(reader="fmriprep", dir=folder, **keys)

    return make


def test_scans_have_their_session_tr_displacement_and_person(tree, made, read_all) -> None:
    scans, skipped = read_all(made(tree))
    assert [(s.subject, s.session, s.run) for s in scans] == [
        ("01", "a", "task-rest"),
        ("01", "b", "task-rest"),
        ("02", "", "task-rest"),
    ]
    first, last = scans[0], scans[2]
    assert (first.tr, first.age, first.sex) == (2.0, 34.0, "M")
    assert first.labels["group"] == "read" and first.labels["task"] == "rest"
    assert first.mean_fd == pytest.approx((87 * 0.1 + 2 * 0.9) / 89)
    assert last.age is None and last.labels["group"] == "write"
    assert [s.what for s in skipped] == ["row of subject 3"] and not first.remarks


def test_regions_are_the_means_that_nilearn_gives(tree, made, labels, read_all) -> None:
    scans, _ = read_all(made(tree))
    by_hand = NiftiLabelsMasker(str(labels), standardize=None, resampling_target="data")
    for scan in scans:
        assert scan.region_indices == (1, 2, 3, 4, 5, 6)
        assert np.array_equal(scan.series, by_hand.fit_transform(scan.source))


def test_a_series_in_pieces_is_the_same(tree, made, read_all, monkeypatch) -> None:
    whole, _ = read_all(made(tree))
    monkeypatch.setattr(images, "PIECE", 7 * 6**3)
    pieces, _ = read_all(made(tree))
    for one, other in zip(whole, pieces, strict=True):
        assert np.array_equal(one.series, other.series)


STRATEGIES: dict[str, dict[str, Any]] = {
    "simple": {},
    "simple, with the global signal": {"global_signal": "basic", "motion": "basic"},
    "scrubbing": {"scrub": 0, "motion": "basic", "wm_csf": "basic"},
    "compcor": {"n_compcor": 2, "motion": "derivatives"},
}


def cleaned_series(recording: Recording, config: CleanConfig) -> Cleaned:
    found = clean(arranged(recording, load_atlas("toy:6")), recording, config)
    assert isinstance(found, Cleaned)
    return found


@pytest.mark.parametrize("low_pass", [None, 0.1])
@pytest.mark.parametrize("words", STRATEGIES)
def test_a_strategy_gives_what_nilearn_gives_by_hand(
    words: str, low_pass: float | None, tree, made, labels, read_all
) -> None:
    name, parameters = words.partition(",")[0], STRATEGIES[words]
    config = CleanConfig(low_pass=low_pass, strategy=StrategyConfig(name, **parameters))
    check_cleaning(config)
    scans, _ = read_all(made(tree, connectivity=ConnectivityConfig(clean=config)))
    for scan in scans:
        confounds, kept = theirs.load_confounds_strategy(
            scan.source, denoise_strategy=name, **parameters
        )
        by_hand = NiftiLabelsMasker(
            str(labels), standardize=None, resampling_target="data", low_pass=low_pass, t_r=2.0
        ).fit_transform(scan.source, confounds=confounds, sample_mask=kept)
        ours = cleaned_series(scan, config)
        assert ours.series.shape == by_hand.shape
        assert ours.scrubbed == VOLUMES - len(by_hand)
        assert np.allclose(pearson(ours.series), pearson(by_hand), atol=1e-7)
    assert ours.scrubbed == (5 if name == "scrubbing" else 3)


def test_scrubbed_volumes_are_counted_in_the_manifest(tree, made) -> None:
    strategy = StrategyConfig("scrubbing", motion="basic", wm_csf="basic", scrub=0)
    connectivity = ConnectivityConfig(clean=CleanConfig(strategy=strategy))
    manifest = write_shards(made(tree, groups=[], connectivity=connectivity))
    assert manifest.quality["volumes scrubbed"] == 3 * 5
    assert manifest.connectivity["clean.strategy.name"] == "scrubbing"
    assert manifest.connectivity["clean.strategy.scrub"] == 0


def test_images_denoised_by_aroma_are_taken_for_its_strategy(tree, made, read_all) -> None:
    for path in list(tree.rglob(f"*{SPACE}_desc-preproc_bold.nii.gz")):
        stem = path.name.partition("_space")[0]
        name = f"{stem}_space-MNI152NLin6Asym_desc-smoothAROMAnonaggr_bold.nii.gz"
        put_image(path.with_name(name), bold_image(7))
    strategy = StrategyConfig("ica_aroma")
    recipe = made(tree, connectivity=ConnectivityConfig(clean=CleanConfig(strategy=strategy)))
    scans, _ = read_all(recipe)
    assert all("smoothAROMA" in scan.source and scan.regressors is not None for scan in scans)
    assert {remark for scan in scans for remark in scan.remarks} == {
        "image in MNI152NLin6Asym, regions from a label image in MNI152NLin2009cAsym"
    }


def test_named_columns_come_from_the_confounds(tree, made, read_all) -> None:
    config = CleanConfig(scrub_mm=0.5, nuisance=["csf", "white_matter"])
    scans, _ = read_all(made(tree, connectivity=ConnectivityConfig(clean=config)))
    assert set(scans[0].confounds) == {"framewise_displacement", "csf", "white_matter"}
    assert cleaned_series(scans[0], config).scrubbed == 2


def test_names_before_fmriprep_1_2(tmp_path, made, read_all) -> None:
    func = tmp_path / "fmriprep" / "sub-10159" / "func"
    stem = "sub-10159_task-rest_bold"
    put_image(func / f"{stem}_space-MNI152NLin2009cAsym_preproc.nii.gz", bold_image(0), tr=0.8)
    put_image(func / f"{stem}_space-T1w_preproc.nii.gz", bold_image(0), tr=0.8)
    rows = ["WhiteMatter\tFramewiseDisplacement\tX", *(f"{i % 7}\t0.2\t{i % 3}" for i in range(90))]
    (func / f"{stem}_confounds.tsv").write_text("\n".join(rows).replace("0.2", "n/a", 1) + "\n")
    config = CleanConfig(
        scrub_mm=0.5, fd_column="FramewiseDisplacement", nuisance=["WhiteMatter", "X"]
    )
    recipe = made(tmp_path / "fmriprep", connectivity=ConnectivityConfig(clean=config))
    (scan,), _ = read_all(recipe)
    assert (scan.subject, scan.run, scan.tr) == ("10159", "task-rest", 0.8)
    assert scan.mean_fd == pytest.approx(0.2)
    assert len(cleaned_series(scan, config).series) == VOLUMES
    strategy = ConnectivityConfig(clean=CleanConfig(strategy=StrategyConfig("simple")))
    with pytest.raises(InputError, match=r"fMRIPrep 1\.2 and later.*clean\.nuisance"):
        read_all(made(tmp_path / "fmriprep", connectivity=strategy))


def test_regressors_until_fmriprep_20_1(tree, made, read_all) -> None:
    for path in tree.rglob("*confounds_timeseries.*"):
        path.rename(path.with_name(path.name.replace("timeseries", "regressors")))
    config = CleanConfig(strategy=StrategyConfig("simple"))
    scans, _ = read_all(made(tree, connectivity=ConnectivityConfig(clean=config)))
    assert all(scan.regressors is not None and scan.mean_fd is not None for scan in scans)


def test_a_label_that_the_image_lacks_is_a_missing_region(tree, made, labels, read_all) -> None:
    values = np.asanyarray(nibabel.load(labels).dataobj).copy()
    values[values == 3] = 0
    put_image(labels, values, np.eye(4))
    scans, _ = read_all(made(tree))
    assert scans[0].region_indices == (1, 2, 4, 5, 6)
    assert np.isnan(arranged(scans[0], load_atlas("toy:6"))[:, 2]).all()
    with pytest.raises(InputError, match=r"region 3 \(3\) is missing .* in 3 of 3 scans"):
        write_shards(made(tree, groups=[]))


def test_a_label_lost_on_the_coarser_grid_is_a_missing_region(tree, made, labels, read_all) -> None:
    values = np.asanyarray(nibabel.load(labels).dataobj).copy()
    values[values == 3] = 0
    values[0, 0, 1] = 3  # between the centres of two voxels of the data
    put_image(labels, values, np.eye(4))
    scans, _ = read_all(made(tree))
    assert scans[0].region_indices == (1, 2, 4, 5, 6)


def test_labels_that_are_no_regions_of_the_atlas_are_refused(tree, made, labels, read_all) -> None:
    values = np.asanyarray(nibabel.load(labels).dataobj).copy()
    values[0, 0, 0], values[0, 0, 1] = 2001, 77
    put_image(labels, values)
    with pytest.raises(InputError, match=r"labels 77, 2001 are no regions of atlas tiny"):
        read_all(made(tree))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((4, 4, 4), 1.5), "not whole"),
        (np.full((4, 4, 4), np.nan), "not whole"),
        (np.zeros((4, 4, 4), dtype=np.int16), "holds no label"),
        (np.ones((4, 4, 4, 3), dtype=np.int16), "expected one volume of labels"),
    ],
)
def test_a_label_image_that_is_none_is_refused(
    values: np.ndarray, words: str, tree, made, labels, read_all
) -> None:
    put_image(labels, values)
    with pytest.raises(InputError, match=f"dseg.nii.gz: .*{words}"):
        read_all(made(tree))


def test_own_and_templates_space_are_a_question_and_ones_own_is_refused(
    tree, made, read_all
) -> None:
    with pytest.raises(InputError, match=r"differ in .*space \(none, MNI152NLin2009cAsym\)"):
        read_all(made(tree, entities={}))
    with pytest.raises(InputError, match=r"in the person's own space.*source\.entities"):
        read_all(made(tree, entities={"space": ""}))


def test_a_label_image_elsewhere_is_refused(tree, made, labels, read_all) -> None:
    values = np.asanyarray(nibabel.load(labels).dataobj)
    far = np.eye(4)
    far[:3, 3] = 500
    put_image(labels, values, far)
    with pytest.raises(InputError, match="the two are in different spaces"):
        read_all(made(tree))


@pytest.mark.parametrize("damage", ["cut", "text", "three axes", "huge"])
def test_a_damaged_image_is_one_line_that_names_it(damage: str, tree, made, read_all) -> None:
    path = next(iter(sorted(tree.rglob(f"*{SPACE}_desc-preproc_bold.nii.gz"))))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "text":
        path.write_text("no image")
    elif damage == "three axes":
        put_image(path, bold_image(0)[..., 0])
    else:
        header = nibabel.load(path).header.copy()
        header.set_data_shape((1000, 1000, 1000, 100))
        path.write_bytes(b"")
        plain = path.with_name(path.name.removesuffix(".gz"))
        plain.write_bytes(bytes(header.binaryblock) + bytes(4))
        path.unlink()
    with pytest.raises(InputError, match=r"desc-preproc_bold\.nii") as caught:
        read_all(made(tree))
    assert "\n" not in str(caught.value)


def test_confounds_that_a_strategy_cannot_use_are_one_line(tree, made, read_all) -> None:
    config = ConnectivityConfig(clean=CleanConfig(strategy=StrategyConfig("compcor")))
    table = next(iter(sorted(tree.rglob("*timeseries.tsv"))))
    for text, words in (
        ("csf\twhite_matter\n1\t2\n", "strategy.name=compcor"),
        ("", "strategy.name=compcor"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=words) as caught:
            read_all(made(tree, connectivity=config))
        assert "\n" not in str(caught.value)
    table.unlink()
    with pytest.raises(InputError, match="no confounds beside it"):
        read_all(made(tree, connectivity=config))


def test_confounds_of_another_length_are_refused(tree, made, read_all) -> None:
    config = CleanConfig(strategy=StrategyConfig("simple"))
    for table in tree.rglob("*timeseries.tsv"):
        put_confounds(table, 0, volumes=80)
    scans, _ = read_all(made(tree, connectivity=ConnectivityConfig(clean=config)))
    with pytest.raises(InputError, match="90 volumes, but 80 rows of confounds"):
        cleaned_series(scans[0], config)


def test_what_would_be_done_twice_is_refused() -> None:
    simple, scrubbing = StrategyConfig("simple"), StrategyConfig("scrubbing")
    for config, words in (
        (CleanConfig(strategy=simple, high_pass=0.01), "high_pass"),
        (CleanConfig(strategy=simple, nuisance=["csf"]), "nuisance"),
        (CleanConfig(strategy=scrubbing, scrub_mm=0.5), "scrub_mm"),
        (CleanConfig(strategy=StrategyConfig(motion="full")), "name=none takes nothing"),
        (CleanConfig(strategy=StrategyConfig("simple", compcor="temporal")), "name=simple takes"),
    ):
        with pytest.raises(InputError, match=words):
            check_cleaning(config)
    lagged = ConnectivityConfig(kind="lagged", clean=CleanConfig(strategy=scrubbing))
    with pytest.raises(InputError, match="kind=lagged"):
        check_connectivity(lagged, load_atlas("toy:6"))


def test_a_strategy_without_fmripreps_confounds_is_refused(bold) -> None:
    recording = Recording("c", "1", "scan.csv", series=bold(0))
    with pytest.raises(InputError, match=r"scan\.csv: .*reader fmriprep"):
        clean(bold(0), recording, CleanConfig(strategy=StrategyConfig("simple")))


def test_the_parameters_are_those_that_nilearn_takes() -> None:
    """nilearn warns of a parameter that the strategy does not need; here it is refused."""
    module = sys.modules["nilearn.interfaces.fmriprep.load_confounds_strategy"]
    for name, presets in module.preset_strategies.items():
        fixed = {"strategy", "demean", "ica_aroma"}
        assert set(TAKES[name]) == set(presets) - fixed, name


def test_scans_can_be_sent_to_another_process(tree, made) -> None:
    listed = list(READERS["fmriprep"](made(tree), load_atlas("toy:6")))
    for scan in (item for item in listed if isinstance(item, Unread)):
        assert np.array_equal(pickle.loads(pickle.dumps(scan)).read().series, scan.read().series)


def test_without_nilearn_there_is_one_clear_line(tree, made, read_all, monkeypatch) -> None:
    images._labels.cache_clear()
    for name in ("nilearn", "nilearn.image", "nilearn.maskers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"needs nilearn.*pip install 'lcm-scale\[imaging\]'"):
        read_all(made(tree))


def test_an_empty_folder_and_a_missing_label_image_are_said(tmp_path, made, read_all) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image with fMRIPrep's name"):
        read_all(made(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"source\.labels_image is not set"):
        read_all(made(tmp_path / "empty", labels_image=None))
    with pytest.raises(InputError, match=r"none\.nii: no such image"):
        read_all(made(tmp_path / "empty", labels_image=tmp_path / "none.nii"))
    with pytest.raises(InputError, match=r"source\.runs=average"):
        read_all(made(tmp_path / "empty", runs="average"))


def test_a_link_without_its_file_is_skipped(tree, made, read_all) -> None:
    path = next(iter(sorted(tree.rglob(f"*{SPACE}_desc-preproc_bold.nii.gz"))))
    path.unlink()
    path.symlink_to("annex-object")
    scans, skipped = read_all(made(tree))
    assert len(scans) == 2 and "datalad get" in skipped[0].why and len(skipped) == 2
