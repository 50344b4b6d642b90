"""What importing costs: reading and asking models needs no trainer, and the package alone nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lcm_scale

PACKAGE = Path(lcm_scale.__file__).parent
ROOMS = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for room in ("weights", "inference")
    for path in (PACKAGE / room).rglob("*.py")
)


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    return done.stdout.strip()


def test_reading_and_asking_models_needs_neither_lightning_nor_webdataset() -> None:
    code = f"import importlib, sys\nfor name in {ROOMS}: importlib.import_module(name)\n"
    code += "print(sorted({'lightning', 'pytorch_lightning', 'webdataset'} & set(sys.modules)))"
    assert len(ROOMS) > 8
    assert python(code) == "[]"


def test_the_package_imports_neither_torch_nor_lightning_and_at_once() -> None:
    code = "import sys, time; start = time.perf_counter(); import lcm_scale\n"
    code += "print(time.perf_counter() - start, sorted({'torch', 'lightning', 'numpy'} & set(sys.modules)))"
    tries = [python(code).split(" ", 1) for _ in range(3)]
    assert {heavy for _, heavy in tries} == {"[]"}
    assert min(float(seconds) for seconds, _ in tries) < 0.3


def test_load_model_is_there_when_it_is_asked_for() -> None:
    from lcm_scale.inference.pretrained import load_model

    assert lcm_scale.load_model is load_model
    assert {"load_model", "__version__"} <= set(dir(lcm_scale))
    code = "import sys, lcm_scale; dir(lcm_scale); print('torch' in sys.modules); lcm_scale.load_model\n"
    code += "print('torch' in sys.modules, 'lightning' in sys.modules)"
    assert python(code).split() == ["False", "True", "False"]
    with pytest.raises(AttributeError, match="no attribute 'load_models'"):
        lcm_scale.load_models  # noqa: B018
