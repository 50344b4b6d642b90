"""lcm-scale: train, finetune and honestly evaluate the Large Connectome Model (arXiv 2510.18910)."""

import os

# Before torch allocates anything: large tensors on CPUs in large pages. A fresh tensor costs 5 times less to touch
# (5 against 28 GB/s, docs/log.md), and a training step makes every gradient anew.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
