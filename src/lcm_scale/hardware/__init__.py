"""The machine: cards and peaks, precision, allocator."""
