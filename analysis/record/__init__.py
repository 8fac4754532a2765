"""Sweeps read from MLflow: runs, metric histories, weights."""
