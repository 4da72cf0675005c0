"""Command-line tools on data and models, as ``facet NAME``; none is a stage of the graph."""
