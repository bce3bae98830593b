"""Spending: what was used, and what may be."""
