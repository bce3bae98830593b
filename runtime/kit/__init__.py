"""For authors of plugins: a folder to begin with, a run on this machine, the conformance suite, and packing."""
