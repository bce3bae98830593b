"""The plugin runtime as the host sees it: a server that it dials, the runners there, and streams of runs."""
