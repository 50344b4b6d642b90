"""lcm-scale: train, finetune and honestly evaluate the Large Connectome Model (arXiv
2510.18910)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lcm_scale.inference.pretrained import load_model

__all__ = ["__version__", "load_model"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load_model`, when it is first asked for: torch takes seconds to import."""
    if name == "load_model":
        from lcm_scale.inference.pretrained import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
