"""Requests that the host sends to others (models, tools over HTTP, webhooks): one policy for all of them."""
