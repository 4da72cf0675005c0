"""Evaluation protocols on arrays: one file per protocol, named after it; each has a VERSION."""
