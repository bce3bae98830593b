"""What a run may ask of the host. The same handlers serve its own stream, a session, and the unary methods."""
