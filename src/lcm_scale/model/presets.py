"""Model sizes: the published depths at their one width, and small ones for tests and small data.

`model=1b` is the dial; everything else follows. Published sizes: paper table of scaling, 4 to 32
layers of width 2048.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lcm_scale.config import ModelConfig
from lcm_scale.errors import InputError, nearest


@dataclass(frozen=True)
class LCMConfig:
    """What fixes the model's parameters and its arithmetic.

    n_regions (R) and n_tokens (M, the whole token table) come from the data; K = width / heads.
    """

    n_regions: int
    target_tokens: tuple[int, ...]  # tokens of each target, in vocabulary order
    width: int = 2048
    layers: int = 4
    heads: int = 8
    ffn: int = 768
    dropout: float = 0.1
    input_dropout: float = 0.0
    init: str = "independent"
    attention: str = "auto"
    mask_constant: bool = False
    edge_branch: bool = False
    edge_dropout: float = 0.5
    people_memory: bool = False  # fitted once training is done
    # what people memory is told beside the matrix: the categories of each column, 0 for a number
    context: tuple[int, ...] = ()
    priors: int = 0  # references of the memories that people memory started from
    # of the radial form, whose vectors it keeps
    kept_scans: int = 0
    kept_people: int = 0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise InputError(
                f"model.width={self.width} is not a multiple of model.heads={self.heads}"
            )

    @property
    def n_tokens(self) -> int:
        return sum(self.target_tokens)


@dataclass(frozen=True)
class Size:
    width: int
    layers: int
    heads: int
    ffn: int
    dropout: float = 0.1


def _published(layers: int) -> Size:
    return Size(width=2048, layers=layers, heads=8, ffn=768)


PRESETS: dict[str, Size] = {
    "tiny": Size(width=64, layers=2, heads=4, ffn=64),
    "small": Size(width=256, layers=4, heads=8, ffn=256),
    "147m": _published(4),
    "294m": _published(8),
    "441m": _published(12),
    "588m": _published(16),
    "735m": _published(20),
    "882m": _published(24),
    "1b": _published(28),
    "1.2b": _published(32),
}


def resolve(config: ModelConfig, n_regions: int, target_tokens: tuple[int, ...]) -> LCMConfig:
    """The preset with the recipe's overrides, for data of R regions and the given tokens a target.

    Raises: InputError for an unknown preset.
    """
    if config.preset not in PRESETS:
        raise InputError(
            f"model.preset={config.preset}{nearest(config.preset, PRESETS)} (one of "
            f"{', '.join(PRESETS)})"
        )
    size = PRESETS[config.preset]
    changes = {
        k: v
        for k in ("width", "layers", "heads", "ffn", "dropout")
        if (v := getattr(config, k)) is not None
    }
    size = replace(size, **changes)
    return LCMConfig(
        n_regions=n_regions,
        target_tokens=target_tokens,
        width=size.width,
        layers=size.layers,
        heads=size.heads,
        ffn=size.ffn,
        dropout=size.dropout,
        input_dropout=config.input_dropout,
        init=config.init,
        attention=config.attention,
        mask_constant=config.mask_constant,
        edge_branch=config.edge_branch,
        edge_dropout=config.edge_dropout,
    )
