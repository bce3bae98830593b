"""What a run may touch: computed once from three layers, frozen with the run, and projected into its context."""
