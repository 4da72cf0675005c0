"""Rendering of synthetic faces."""
