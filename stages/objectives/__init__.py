"""Training objectives over any head: one file per objective, named after it."""
