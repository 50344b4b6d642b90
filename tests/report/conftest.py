"""The toy report, written once a module."""

from pathlib import Path

import pytest
from toy_report import report

from lcm_scale.report.write import write_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(report(), tmp_path_factory.mktemp("reports") / "runs" / "toy").parent


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")
