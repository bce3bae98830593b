"""What the configuration file declares, and what the host makes for itself at its first start."""
