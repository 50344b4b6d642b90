"""Open data that a network or the package index gives."""
