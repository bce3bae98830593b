"""Secrets: provider keys, credentials. Kept encrypted; a listing never shows them."""
