"""Data sources, and the memory-mapped store that all trials of a node share."""
