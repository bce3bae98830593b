"""Event listeners of plugins: which observe a workspace, how far each is, and how events reach them."""
