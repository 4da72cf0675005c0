"""The training loop and its parts: data set, networks, step, processes, checkpoints."""
