"""Sweeps over the trainables: one module a search space, with the searcher and the record they share."""
