"""Questions to a person before something is done."""
