"""Where each piece of content comes from: said by the host alone."""
