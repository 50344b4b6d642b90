"""What `lcm-scale tune` measures, keeps and reads again; a file that does not count is one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lcm_scale.errors import InputError
from lcm_scale.hardware import tune
from lcm_scale.model import dispatch

FACTORS = {"cpu fp32": {64: 1.5, 256: 1.25}}
SHAPE = (64, 27, 116, 128, 4)  # B, M, R, D, H


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "lcm-scale"
    dispatch.use(None)


def test_the_small_model_of_many_tokens_takes_projected() -> None:
    """Absorbed was a third slower there, and the counts alone would take it."""
    cost = dispatch.costs(*SHAPE, "cpu", torch.float32)
    assert cost["absorbed"] < cost["projected"]
    assert dispatch.choose(*SHAPE) == "projected"
    assert dispatch.choose(64, 5, 116, 128, 4) == "absorbed"
    assert dispatch.choose(16, 27, 116, 2048, 8) == "absorbed"


def test_factors_in_force_decide_and_can_be_taken_back() -> None:
    dispatch.use({"cpu fp32": {128: 0.5}})
    assert dispatch.choose(*SHAPE) == "absorbed"
    dispatch.use({"cuda half": {128: 0.5}})
    assert dispatch.factor(128, "cpu", torch.float32) == 1.0
    dispatch.use(None)
    assert dispatch.choose(*SHAPE) == "projected"


@pytest.mark.parametrize(
    ("width", "factor"),
    [(16, 1.5), (64, 1.5), (128, (1.5 * 1.25) ** 0.5), (256, 1.25), (999, 1.25)],
)
def test_between_widths_the_factor_goes_over(width: int, factor: float) -> None:
    dispatch.use(FACTORS)
    assert dispatch.factor(width, "cpu", torch.float32) == pytest.approx(factor)


def test_the_tokens_at_which_it_measures_are_where_the_counts_are_equal() -> None:
    M = tune.even_tokens(16, 128, 4, "cpu", torch.float32)
    below, above = (dispatch.costs(16, m, 116, 128, 4, "cpu", torch.float32) for m in (M - 1, M))
    assert below["absorbed"] <= below["projected"] and above["absorbed"] > above["projected"]


def test_a_width_is_measured_by_both_formulations_and_no_random_number_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    took = {"absorbed": 3.0, "projected": 2.0}

    def seconds(layer: object, form: str, *_: object) -> float:
        ran.append(form)
        return took[form]

    monkeypatch.setattr(tune, "seconds", seconds)
    monkeypatch.setattr(tune, "SECONDS", 0.0)
    before = torch.get_rng_state()
    found = tune.apart(128, 4, "cpu", torch.float32)
    assert ran == ["absorbed", "projected"] and torch.equal(torch.get_rng_state(), before)
    assert found == pytest.approx(1.5, rel=0.05)  # the counts are equal there


def test_the_real_measurement_is_a_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "SECONDS", 0.0)
    monkeypatch.setattr(tune, "HEADS", {32: 2})
    told: list[int] = []
    found = tune.measure("cpu", lambda kind, width, factor: told.append(width))
    assert set(told) == {32} and found["cpu fp32"][32] > 0


def test_what_is_kept_is_read_again(folder: Path) -> None:
    assert tune.load("cpu", 1) == (None, "")
    path = tune.store(FACTORS, "cpu", 1)
    assert path == folder / "tune.json" and [p.name for p in folder.iterdir()] == ["tune.json"]
    assert tune.load("cpu", 1) == (FACTORS, f"measured on this machine, {path}")
    assert tune.load("cuda", 1) == (None, "")


def test_other_threads_or_another_processor_do_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune.store(FACTORS, "cpu", 1)
    factors, words = tune.load("cpu", 2)
    assert factors is None and "(threads 1, here 2); lcm-scale tune measures anew" in words
    monkeypatch.setattr(tune, "processor", lambda: "another")
    factors, words = tune.load("cpu", 1)
    assert factors is None and "here another" in words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected an object"),
        ("{}", "not of this version"),
        ('{"format": "lcm-scale-tune/1", "devices": 3}', "devices"),
        ('{"format": "lcm-scale-tune/1", "devices": {"cpu": 3}}', "cpu"),
        ('{"format": "lcm-scale-tune/1", "devices": {"cpu": {"factors": {"x": {"a": 1}}}}}', "a"),
        (
            '{"format": "lcm-scale-tune/1", "devices": {"cpu": {"factors": {"x": {"64": 99}}}}}',
            "64: 99 is not between",
        ),
        (
            '{"format": "lcm-scale-tune/1", "devices": {"cpu": {"factors": {"x": {"64": "y"}}}}}',
            "64",
        ),
    ],
)
def test_a_damaged_file_is_one_line_and_nothing_else(text: str, said: str, folder: Path) -> None:
    folder.mkdir()
    (folder / "tune.json").write_text(text)
    factors, words = tune.load("cpu", 1)
    assert factors is None and said in words and "\n" not in words
    assert words.startswith(f"{folder / 'tune.json'} is not used (")
    tune.store(FACTORS, "cpu", 1)
    assert json.loads((folder / "tune.json").read_text())["format"] == tune.FORMAT


def test_a_cache_that_cannot_be_written_is_one_line(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(InputError, match=r"tune\.json: cannot be written"):
        tune.store(FACTORS, "cpu", 1)
