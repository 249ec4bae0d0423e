"""Models by name, from training checkpoints, and the folders that hold them."""
