"""Providers, models and prices that operators keep through the API, beside those of the configuration file."""
