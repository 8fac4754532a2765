"""Which trial goes on, pauses, resumes or ends. Replayable from the ledger; Ray in `tune_scheduler` only."""
