"""Backbones (image -> feature): one file per family, named after it."""
