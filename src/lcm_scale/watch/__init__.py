"""A live table of the runs in a folder, read from what they write."""
