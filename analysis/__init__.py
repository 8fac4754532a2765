"""Reads the record of sweeps from MLflow: tables, winners, figures, reports."""
