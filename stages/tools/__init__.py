"""Programs a person calls on data and models, as ``facet NAME``; no stage of the graph."""
