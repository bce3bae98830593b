"""Models: what they are asked, who serves them, and what takes their place."""
