"""What models cost: a table whose version goes with every cost that is computed by it."""
