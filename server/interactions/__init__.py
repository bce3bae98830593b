"""Structured questions to people, and their answers."""
