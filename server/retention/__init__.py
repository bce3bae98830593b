"""How long things are kept, and the reaper that lets go of what is older."""
