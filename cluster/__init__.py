"""Joins a Ray cluster or starts an embedded one, and runs the MLflow tracking server."""
