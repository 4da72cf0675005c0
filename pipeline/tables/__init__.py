"""Tables of results as they are printed: at one commit, between two, and where each number comes from."""
