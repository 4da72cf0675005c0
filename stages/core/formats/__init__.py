"""File formats of data sets and checkpoints, read without trust."""
