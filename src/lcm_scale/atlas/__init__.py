"""Atlases: which region stands in which row of a connectivity matrix."""

from lcm_scale.atlas.regions import Atlas, edge_order, numbered, square
from lcm_scale.atlas.tables import BUILT_IN, as_table, load_atlas

__all__ = ["BUILT_IN", "Atlas", "as_table", "edge_order", "load_atlas", "numbered", "square"]
