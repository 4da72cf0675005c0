"""Packs images of test sets and of people into record files."""
