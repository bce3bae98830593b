"""What something holds: what is left after its end shows here."""
