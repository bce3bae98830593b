"""Tools: what agents may call, and the native ones, which work in the box."""
