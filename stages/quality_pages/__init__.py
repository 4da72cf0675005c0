"""A page per quality method of a run, and one that sets them side by side."""
