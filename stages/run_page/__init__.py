"""HTML page of a single run, and figures of its head."""
