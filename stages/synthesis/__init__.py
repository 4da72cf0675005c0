"""Draws the embedded data set: identities by procedure and seed, written in the official layouts."""
