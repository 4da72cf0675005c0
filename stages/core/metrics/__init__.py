"""Metrics: error rates, identification, error versus discard, rank agreement."""
