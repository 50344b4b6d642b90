"""What a model card says of an evaluation: the report's own verdicts, of how many people, and whether
the numbers are of this very file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lcm_scale.errors import InputError
from lcm_scale.weights.card import card, read_results

HUB = Path(__file__).parents[1] / "formats" / "0.1.0" / "hub"
ABOUT = json.loads((HUB / "config.json").read_text())


def metric(name: str, value: float, low: float, high: float, people: int) -> dict[str, Any]:
    interval = {"value": value, "low": low, "high": high}
    return {"name": name, **interval, "n_scans": people + 3, "n_subjects": people}


def target(
    name: str, standing: str, less: tuple[float, float, float], people: int
) -> dict[str, Any]:
    return {
        "target": name,
        "confounded": None,
        "deciding": "auroc",
        "model": "LCM",
        "best_baseline": "tangent",
        "verdict": {"standing": standing, "sentence": "", "detail": ""},
        "results": {
            "LCM": [
                metric("accuracy", 0.6, 0.5, 0.7, people),
                metric("auroc", 0.7, 0.6, 0.8, people),
            ],
            "tangent": [metric("auroc", 0.65, 0.55, 0.75, people)],
        },
        "differences": {"tangent": [metric("auroc", *less, people)]},
    }


RESULTS = {
    "title": "Study",
    "simulated": False,
    "verdict": {"standing": "level", "sentence": "Nothing can be shown.", "detail": "It holds 0."},
    "protocol": "5 folds.",
    "brackets": "Brackets are intervals over people.",
    "data": {"set": "abide", "fingerprint": "0123abcd"},
    "together": {"diagnosis": 0.4, "sex": 0.013},
    "targets": [
        target("diagnosis", "level", (0.05, -0.01, 0.11), 163),
        target("sex", "ahead", (0.05, 0.01, 0.09), 150),
    ],
}


def shown(folder: Path, mark: str = "", **changes: Any) -> str:
    (folder / "results.json").write_text(json.dumps({**RESULTS, **changes}))
    return card(ABOUT, read_results(folder), "", mark)


def test_each_target_says_who_is_ahead_as_the_report_does_with_people_and_interval(
    tmp_path: Path,
) -> None:
    text = shown(tmp_path)
    assert '"Study", of 163 people in abide (data fingerprint 0123abcd).' in text
    assert "Nothing can be shown. It holds 0." in text
    assert "Protocol: 5 folds. Brackets are intervals over people." in text
    level = "0.050 [-0.010, 0.110] | no difference can be shown | 0.400 | 163 |"
    lead = "0.050 [0.010, 0.090] | the model | 0.013 | 150 |"
    assert (
        f"| diagnosis | auroc | LCM 0.700 [0.600, 0.800] | tangent 0.650 [0.550, 0.750] | {level}"
        in text
    )
    assert lead in text and "ahead is not said" not in text


def test_what_an_older_version_called_a_lead_is_not_repeated(tmp_path: Path) -> None:
    old = {"standing": "ahead", "certain": False, "sentence": "LCM is ahead.", "detail": ""}
    plain = {
        k: v for k, v in RESULTS["targets"][0].items() if k in ("target", "confounded", "results")
    }
    text = shown(tmp_path, verdict=old, targets=[plain])
    assert "LCM is ahead" not in text and "Who is ahead is not said" in text
    assert "| diagnosis | LCM | auroc | 0.700 |" in text


def test_numbers_of_a_fixed_model_are_of_this_file_only_where_it_is_the_one(tmp_path: Path) -> None:
    assert "The folds trained models of their own" in shown(tmp_path, "aa")
    asked = {"starts_from": {"evaluate.checkpoint": "aa"}}
    (tmp_path / "evaluation.json").write_text(json.dumps(asked))
    assert "These numbers are of this very file" in shown(tmp_path, "aa")
    assert "which is another file than this" in shown(tmp_path, "bb")


@pytest.mark.parametrize(
    "change",
    [
        {"deciding": "r2"},
        {"deciding": None},
        {"best_baseline": "nobody"},
        {"best_baseline": ["tangent"]},
        {"differences": {}},
        {"differences": {"tangent": []}},
        {"model": "x"},
        {"verdict": {"sentence": "", "standing": 3}},
    ],
)
def test_results_that_do_not_agree_with_themselves_are_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="not the results of an evaluation"):
        shown(tmp_path, targets=[{**RESULTS["targets"][0], **change}])
