"""What happens by the clock: each time of a schedule makes an event."""
