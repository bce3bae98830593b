"""The conversation as people see it, projected from the event log and the runs."""
