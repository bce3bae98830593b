"""What every adapter shares: the connection to the host, and deliveries with one effect. Adapters only map."""
