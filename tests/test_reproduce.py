"""`make reproduce`: what is missing is named before anything runs, and its table marks what is
optimistic."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "reproduce.py"


@pytest.fixture(scope="module")
def reproduce() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reproduce", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_missing_folder_is_named_with_where_to_get_it(
    reproduce: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "abide").mkdir()
    with pytest.raises(SystemExit) as stopped:
        reproduce.folders(tmp_path, tmp_path / "taowu")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'ppmi'}: no such folder for ppmi" in said and "doi 10.17608" in said
    assert said.count("\n") == 1


def test_the_table_marks_what_is_optimistic_and_names_what_was_published(
    reproduce: ModuleType,
) -> None:
    own = {"value": 0.85, "low": 0.7, "high": 1.0, "n_subjects": 20}
    models = dict.fromkeys(("LCM", "linear", "tangent", "majority"), own)
    rows = [
        {"set": "taowu-lw", "protocol": protocol, "published": 95.0, "accuracy": models}
        for protocol in ("paper", "nested")
    ]
    paper, nested = reproduce.table(rows).splitlines()[2:]
    assert "**paper, optimistic** | 20 | 95.00 | 85.0 [70.0, 100.0]" in paper
    assert "95.00" not in nested and "optimistic" not in nested
