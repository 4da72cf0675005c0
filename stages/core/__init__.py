"""Pure functions on arrays: no files, clock, global random state, device choice or logging."""
