"""Margin heads' shared parts, objectives' terms and their optimiser."""
