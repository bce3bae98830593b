"""What a platform is asked to do that is no message."""
