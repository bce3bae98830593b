"""One execution of one runner for one event: the run, its attempts, its ledger."""
