"""Which trial goes on, pauses, is resumed or ends. Replayable from the ledger; Ray only in
`tune_scheduler`."""
