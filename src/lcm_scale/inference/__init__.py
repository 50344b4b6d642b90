"""Answers of a trained model, without Lightning."""
