"""Readers of the official data-set layouts: one file per layout, the file name is its name."""
