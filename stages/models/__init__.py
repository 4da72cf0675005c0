"""Trained models as files: saved, imported, exported, found by name, verified."""
