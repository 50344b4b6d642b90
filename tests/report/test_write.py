"""A report's files: plain numbers, each whole, nothing of others touched."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from toy_report import (
    REASON,
    N,
    report,
    small,
)

from lcm_scale.errors import InputError
from lcm_scale.report import explain_section
from lcm_scale.report.explained import FORMAT
from lcm_scale.report.write import write_report


def test_the_json_is_plain_and_holds_every_number(folder: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    data = json.loads((folder / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert data["verdict"]["standing"] == "behind" and data["simulated"] is True
    assert data["provenance"] == {"versions": {"torch": "2"}, "seed": 1, "tokens": 12, "rate": None}
    by_target = {t["target"]: t for t in data["targets"]}
    assert by_target["site"]["confounded"] == REASON
    accuracy = by_target["diagnosis"]["results"]["LCM"][0]
    assert accuracy["name"] == "accuracy" and accuracy["low"] < accuracy["value"] < accuracy["high"]
    constant = next(m for m in by_target["age"]["results"]["majority"] if m["name"] == "pearson_r")
    assert constant["value"] is None, "undefined is null, not NaN"
    assert len(data["quality"]["constant regions, in scans"]) == 61, (
        "the page folds, the file keeps"
    )


def test_the_csv_files_hold_each_metric_difference_and_prediction(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert len(rows) == (3 + 2) * (3 + 8 + 8)
    assert {(r["model"], r["minus"]) for r in rows if r["minus"]} == {
        ("LCM", "majority"),
        ("LCM", "linear"),
    }
    scans = list(csv.DictReader((folder / "predictions.csv").open()))
    assert len(scans) == 3 * 3 * N
    first = next(row for row in scans if row["target"] == "diagnosis" and row["model"] == "LCM")
    assert first["truth"] in ("CN", "Autism") and re.fullmatch(
        r"CN=0\.\d{6,};Autism=0\.\d{6,}", first["scores"]
    )


def test_the_same_report_is_the_same_files(folder: Path, tmp_path: Path) -> None:
    rewritten = write_report(report(), tmp_path / "r").parent
    assert sorted(p.relative_to(rewritten) for p in rewritten.rglob("*")) == sorted(
        p.relative_to(folder) for p in folder.rglob("*")
    )
    for name in ("report.html", "results.json", "results.csv", "predictions.csv"):
        assert (rewritten / name).read_bytes() == (folder / name).read_bytes(), name


def test_figures_of_an_earlier_report_are_cleared_and_other_files_left(tmp_path: Path) -> None:
    (tmp_path / "r" / "figures").mkdir(parents=True)
    (tmp_path / "r" / "figures" / "eye_status-roc.png").write_bytes(b"old")
    (tmp_path / "r" / "figures" / "mine.svg").write_bytes(b"mine")
    small(tmp_path)
    left = {p.name for p in (tmp_path / "r" / "figures").iterdir()}
    assert "eye_status-roc.png" not in left and "mine.svg" in left and "diagnosis-roc.png" in left


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(replace(report(), targets=report().targets[1:2]), tmp_path / "r")


def explain(run: Path, title: str = "PD", **models: str) -> None:
    """As `lcm-scale explain` leaves it."""
    (run / "explain" / "figures").mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg", "csv"):
        (run / "explain" / "figures" / f"map.{ending}").write_text("<svg></svg>")
    figure = {"target": "diagnosis", "title": title, "caption": "A <map>.", "file": "map"}
    facts = {"format": FORMAT, "sentences": ["Nothing & no more."], "models": dict(models)}
    facts["figures"] = [figure]
    (run / "explain" / "explain.json").write_text(json.dumps(facts))


def test_maps_made_after_a_report_come_into_it_and_stay_when_it_is_written_again(
    tmp_path: Path,
) -> None:
    assert not explain_section.renew(tmp_path / "r"), "no report"
    before = small(tmp_path)
    assert "What the model uses" not in before and explain_section.renew(tmp_path / "r")
    assert (tmp_path / "r" / "report.html").read_text() == before, "nobody has explained the run"
    explain(tmp_path / "r", "<PD>")
    for _ in range(2):
        assert explain_section.renew(tmp_path / "r")
    page = (tmp_path / "r" / "report.html").read_text()
    assert page.count("What the model uses") == 1 and "Nothing &amp; no more." in page
    assert "&lt;PD&gt;" in page and "A &lt;map&gt;." in page and "<script" not in page
    for file in ("figures/map.png", "figures/map.svg", "figures/map.csv", "explain.html"):
        assert f'href="explain/{file}"' in page
    assert small(tmp_path) == page, "an evaluation that is repeated keeps it"
    (tmp_path / "r" / "explain" / "figures" / "map.svg").unlink()
    with pytest.raises(InputError, match=r"map\.svg: cannot be read .*explain again"):
        explain_section.renew(tmp_path / "r")
    assert (tmp_path / "r" / "report.html").read_text() == page, "nothing half-written"
    explain(tmp_path / "r", **{"folds/fold-1/checkpoints/final.ckpt": "a mark"})
    assert explain_section.renew(tmp_path / "r")
    assert (tmp_path / "r" / "report.html").read_text() == before, "maps of models that are gone"
    (tmp_path / "r" / "report.html").write_text("of an older version")
    assert not explain_section.renew(tmp_path / "r")
