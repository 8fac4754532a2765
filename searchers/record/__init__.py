"""The record of a sweep: the ledger on disk, which is the truth, and MLflow, which follows it."""
