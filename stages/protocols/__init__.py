"""Evaluation protocols on arrays: one file each, the file name is its name; each carries a VERSION."""
