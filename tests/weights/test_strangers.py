"""Models that somebody else made, or changed: refused in one line, and no file outside the folder
is read."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lcm_scale import checked
from lcm_scale.cli import app
from lcm_scale.errors import InputError
from lcm_scale.weights import checkpoints, hub, official
from lcm_scale.weights.card import card, read_results
from lcm_scale.weights.meaning import CHECKPOINT, Meaning

OLD = Path(__file__).parents[1] / "formats" / "0.1.0"
STEP = OLD / "runs/run/checkpoints/step-00000005.ckpt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported model without its sums, which a stranger would have made anew."""
    copied = Path(shutil.copytree(OLD / "hub", tmp_path / "model"))
    (copied / hub.SUMS).unlink()
    return copied


def refused(folder: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        hub.read_folder(folder)
    assert "\n" not in str(caught.value)


# -- folders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [hub.CONFIG, hub.WEIGHTS, hub.INDEX, hub.SUMS])
def test_a_link_that_leads_out_of_the_folder_is_refused(name: str, folder: Path) -> None:
    outside = folder.parent / name
    if (folder / name).exists():
        (folder / name).rename(outside)
    else:
        outside.write_text("{}")
    (folder / name).symlink_to(outside)
    refused(folder, rf"{name}: a link that leads out of its folder")


def test_links_of_the_hubs_cache_are_good(folder: Path) -> None:
    """As huggingface_hub lays it out: snapshots/REVISION/file -> ../../blobs/SUM."""
    cache = folder.parent / "models--owner--name"
    snapshot = cache / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for number, name in enumerate((hub.CONFIG, hub.WEIGHTS)):
        shutil.copy(folder / name, cache / "blobs" / str(number))
        (snapshot / name).symlink_to(Path("../../blobs") / str(number))
    assert hub.read_folder(snapshot).meaning.run == "run"
    (snapshot / hub.WEIGHTS).unlink()
    (snapshot / hub.WEIGHTS).symlink_to(folder / hub.WEIGHTS)
    refused(snapshot, "a link that leads out of its folder")


@pytest.mark.parametrize("name", ["/etc/hostname", "../x", "a/b", "", "..", "\x1b[31m"])
def test_an_index_that_names_a_file_elsewhere_is_refused(name: str, folder: Path) -> None:
    (folder / hub.INDEX).write_text(json.dumps({"weight_map": {"norm.weight": name}}))
    refused(folder, r"index\.json: damaged: weight_map\.norm\.weight: expected the name of a file")


@pytest.mark.parametrize("change", [torch.Tensor.int, torch.Tensor.bool, torch.Tensor.cfloat])
def test_weights_of_another_type_are_named(
    change: Callable[[torch.Tensor], torch.Tensor], folder: Path
) -> None:
    weights = load_file(folder / hub.WEIGHTS)
    weights["norm.weight"] = change(weights["norm.weight"])
    save_file(weights, folder / hub.WEIGHTS)
    refused(folder, r"the weights do not fit config\.json: norm\.weight is of type")


def test_a_configuration_without_end_is_not_read(folder: Path) -> None:
    with open(folder / hub.CONFIG, "wb") as handle:
        handle.truncate(2**40)  # on disk it takes nothing
    refused(folder, r"config\.json: 1,099,511,627,776 bytes; at most")


# -- checkpoints -----------------------------------------------------------------------------------


def changed_checkpoint(path: Path, **members: Any) -> Path:
    data = {**checkpoints.read_file(STEP), **members}
    checkpoints.write_file(data, path)
    return path


def test_a_weight_that_repeats_one_number_is_no_weight(tmp_path: Path) -> None:
    """A file of a kilobyte could claim terabytes by strides of 0."""
    state = dict(checkpoints.read_file(STEP)["state_dict"])
    state["model.norm.weight"] = torch.zeros(1).expand(10**12)
    path = changed_checkpoint(tmp_path / "a.ckpt", state_dict=state)
    with pytest.raises(InputError, match="its state_dict holds no weights"):
        checkpoints.load(path)


def test_weights_that_all_lie_in_the_same_bytes_are_refused(tmp_path: Path) -> None:
    shared = torch.zeros(200_000)
    state = {f"model.{number}": shared for number in range(50)}
    path = changed_checkpoint(tmp_path / "a.ckpt", state_dict=state)
    with pytest.raises(InputError, match="more weights than the file has bytes for"):
        checkpoints.load(path)


def test_weights_that_are_more_than_numbers_are_refused(tmp_path: Path) -> None:
    sparse = torch.zeros(3).to_sparse()
    path = changed_checkpoint(tmp_path / "a.ckpt", state_dict={"model.norm.weight": sparse})
    with pytest.raises(InputError, match="its state_dict holds no weights"):
        checkpoints.load(path)


def test_a_compressed_checkpoint_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with (
        zipfile.ZipFile(STEP) as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for record in archive.infolist():
            packed.writestr(record.filename, archive.read(record))
    assert not checkpoints.is_intact(path)
    with pytest.raises(InputError, match="damaged or not a checkpoint"):
        checkpoints.load(path)


def test_a_meaning_that_unfolds_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle may name one list a million times; JSON cannot."""
    monkeypatch.setattr(checked, "MOST_VALUES", 100_000)
    head = checkpoints.read_file(STEP)["lcm"]
    folded: Any = "x"
    for _ in range(12):
        folded = [folded] * 10
    data = [{**facts, "connectivity": {"kind": folded}} for facts in head["data"]]
    with pytest.raises(InputError, match="more than 100,000 values"):
        Meaning.from_json({**head, "data": data}, CHECKPOINT, "the/file")


def test_a_million_people_are_not_too_many() -> None:
    head = checkpoints.read_file(STEP)["lcm"]
    people = [f"{number:016x}" for number in range(1_000_001)]
    meaning = Meaning.from_json({**head, "subjects": people}, CHECKPOINT, "the/file")
    assert len(meaning.subjects) == 1_000_001


def test_the_published_pair_is_no_way_round(tmp_path: Path) -> None:
    """Neither compressed files nor strides of 0."""
    torch.save({"lin.0.weight": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", bytes(10**7))
    for name, message in (("a.pth", "expected a state dict"), ("b.pth", "damaged, or not weights")):
        with pytest.raises(InputError, match=message):
            official.import_official(
                tmp_path / name, tmp_path / name, tmp_path / "g", "aal116", tmp_path / "run"
            )


@pytest.mark.parametrize(
    "text", ["a: [1, [2]]", "a: b", "- a", "a: &x [*x]", "a: [!!python/name:os.system x]", "\0"]
)
def test_groups_of_the_published_model_are_plain_lists(text: str, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "a.pth")
    (tmp_path / "g.yml").write_text(text)
    with pytest.raises(InputError, match=r"g\.yml: [^\n]*$"):
        official.import_official(
            tmp_path / "a.pth", tmp_path / "a.pth", tmp_path / "g.yml", "aal116", tmp_path / "run"
        )


# -- results ---------------------------------------------------------------------------------------

METRIC = {"name": "auroc", "value": 0.7, "low": 0.6, "high": None, "n_scans": 20, "n_subjects": 9}
RESULTS = {
    "title": "Study",
    "simulated": False,
    "verdict": {"sentence": "A plain baseline wins."},
    "protocol": "5 folds.",
    "targets": [{"target": "age", "confounded": None, "results": {"LCM": [METRIC]}}],
}


def lcm(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lcm-scale", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        app.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    "change",
    [
        {"targets": 3},
        {"targets": [{"target": "age"}]},
        {"targets": [{"target": "age", "confounded": None, "results": {"LCM": [0.5]}}]},
        {"targets": [{"target": 3, "confounded": None, "results": {}}]},
        {
            "targets": [
                {"target": "age", "confounded": None, "results": {"LCM": [{**METRIC, "low": "x"}]}}
            ]
        },
        {"verdict": "won"},
        {"verdict": {"sentence": ["x"]}},
        {"simulated": 0},
        {"title": None},
    ],
)
def test_damaged_results_leave_no_folder_and_no_traceback(
    change: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "results.json").write_text(json.dumps({**RESULTS, **change}))
    words = ("export", "hub", STEP, tmp_path / "out", "--results", tmp_path)
    assert lcm(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "results.json: not the results of an evaluation (" in error
    assert not (tmp_path / "out").exists()


def test_names_of_others_neither_open_a_tag_nor_end_a_line_of_the_card(tmp_path: Path) -> None:
    nasty = "<script>x</script> | a\n# head"
    (tmp_path / "results.json").write_text(json.dumps({**RESULTS, "title": nasty}))
    about = {**json.loads((OLD / "hub" / "config.json").read_text()), "run": nasty}
    text = card(about, read_results(tmp_path), "")
    assert "<script" not in text and "\n# head" not in text and r"\| a # head" in text


# -- run folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "shown"),
    [
        ("{}", "run          run"),
        ("name: x", "model        not stated"),
        ("{name: 3, data: 4, model: [], phases: {a: b}}", "run          3"),
        ("{data: {sets: [1, null]}}", "data         1, None"),
        ("{phases: [3, {name: a}]}", "phases        ( epochs), a ( epochs)"),
        ("name: ???", "run          ???"),
    ],
)
def test_inspect_of_a_run_whose_recipe_lacks_parts(
    recipe: str,
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(recipe)
    assert lcm(monkeypatch, "inspect", tmp_path / "run") == 0
    assert shown in capsys.readouterr().out
