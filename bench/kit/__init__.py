"""What benchmarks share: the installation that is measured, floors, cores, and how results are told."""
