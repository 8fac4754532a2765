"""MLflow record."""
