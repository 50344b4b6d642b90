"""Where the cards of models that release 0.1.0 exported tell their readers to find `load_model`;
new cards say `from lcm_scale import load_model`."""

from lcm_scale.inference.pretrained import load_model

__all__ = ["load_model"]
