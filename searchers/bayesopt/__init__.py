"""Bayesian optimization: the surrogate, the acquisition and the searcher. Importable alone."""
