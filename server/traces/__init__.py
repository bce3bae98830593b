"""Spans of the host: what an event became, across kills."""
