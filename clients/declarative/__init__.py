"""What a host is set up with, as files: read, compared, applied, and written down again."""
