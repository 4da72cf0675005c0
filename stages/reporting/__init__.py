"""Compares a table with the published one, and writes it as text, page and plots."""
