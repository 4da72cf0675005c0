"""Renders the synthetic data sets: procedural identities by seed, written in the official layouts."""
