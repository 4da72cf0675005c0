"""Checks of data sets and files for ``facet doctor`` and ``facet inspect``: known facts, and what is really there."""
