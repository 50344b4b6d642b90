"""lcm-scale: train, finetune and honestly evaluate the Large Connectome Model (arXiv
2510.18910)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcm_scale.estimators import ConnectomeFeatures, LCMClassifier, LCMRegressor
    from lcm_scale.inference.pretrained import load_model

__all__ = ["ConnectomeFeatures", "LCMClassifier", "LCMRegressor", "__version__", "load_model"]
__version__ = "0.1.0"
_HOMES = {
    "load_model": "lcm_scale.inference.pretrained",
    "ConnectomeFeatures": "lcm_scale.estimators",
    "LCMClassifier": "lcm_scale.estimators",
    "LCMRegressor": "lcm_scale.estimators",
}


def __getattr__(name: str) -> Any:
    """What has a home elsewhere, when it is first asked for: torch and scikit-learn take seconds to
    import."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
