"""What is counted, and the page on which Prometheus reads it. Off unless a server's settings name an address."""
