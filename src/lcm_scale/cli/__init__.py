"""The command line: one file a family of verbs; they parse and print, nothing else."""

from lcm_scale.cli.app import main

__all__ = ["main"]
