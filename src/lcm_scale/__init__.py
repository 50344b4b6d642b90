"""lcm-scale: train, finetune and honestly evaluate the Large Connectome Model (arXiv
2510.18910)."""

__version__ = "0.1.0"
