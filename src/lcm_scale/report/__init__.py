"""The report of an evaluation: page, figures and numbers as files."""
