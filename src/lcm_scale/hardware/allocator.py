"""The C library's memory: what a process frees it may keep for the next step."""

from __future__ import annotations

import ctypes


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for the next step: half of a CPU step's time is else the
    kernel's, which takes large tensors back and zeroes their pages anew (docs/log.md).  Returns:
    whether the C library is one that can (glibc).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    no_maps, never_trim = (-4, 0), (-1, -1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
    return bool(mallopt(*no_maps)) and bool(mallopt(*never_trim))
