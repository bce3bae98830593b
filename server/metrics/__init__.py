"""What the host counts, and how it is told to Prometheus."""
