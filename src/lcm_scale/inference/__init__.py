"""Answers of trained models, without Lightning."""
