"""Readers of the official data-set layouts: one file per layout, named after it."""
