"""Where the host keeps its data: one writer, a few readers, blobs, keys and migrations."""
