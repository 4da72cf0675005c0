"""Faces in ordinary pictures: detection, comparison, quality scores."""
