"""Training objectives over any head: one file each, the file name is its name."""
