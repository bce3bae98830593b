"""Migrations: each revision only adds (expand); what is not used any more is taken away a version later (contract)."""
