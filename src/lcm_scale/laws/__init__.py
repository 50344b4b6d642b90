"""Scaling laws: a sweep's results collected, fitted and shown."""
