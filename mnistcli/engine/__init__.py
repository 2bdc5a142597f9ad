"""Recipe and data in, events and checkpoints out. Prints nothing."""
