"""What the package needs of huggingface_hub's private parts."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import nn

Holds = Callable[[str, bool, str], None]


class Model(nn.Linear, PyTorchModelHubMixin):
    """As weights/hub.py makes one: the whole configuration is its one argument."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(2, config["width"])
        self.calls: list[Path] = []

    def _save_pretrained(self, save_directory: Path) -> None:
        self.calls.append(save_directory)
        super()._save_pretrained(save_directory)


def test_the_mixin_keeps_the_configuration_and_saves_what_was_put_in_its_place(
    holds: Holds, tmp_path: Path
) -> None:
    model = Model({"width": 3})
    kept = getattr(model, "_hub_mixin_config", None)
    holds("_hub_mixin_config", kept == {"width": 3}, f"no longer is the configuration: {kept}")
    model._hub_mixin_config = {"width": 3, "atlas": "another"}
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    same = saved == {"width": 3, "atlas": "another"}
    holds("_hub_mixin_config", same, f"is no longer what save_pretrained writes: {saved}")


def test_saving_goes_through_the_method_that_we_override(holds: Holds, tmp_path: Path) -> None:
    taken = list(inspect.signature(PyTorchModelHubMixin._save_pretrained).parameters)
    holds("_save_pretrained", taken == ["self", "save_directory"], f"takes {taken}")
    model = Model({"width": 3})
    model.save_pretrained(tmp_path)
    holds("_save_pretrained", model.calls == [tmp_path], "is no longer called by save_pretrained")
    holds("_save_pretrained", (tmp_path / "model.safetensors").is_file(), "writes no weights")
