"""Backbones (image -> feature): one file per family, the file name is its name."""
