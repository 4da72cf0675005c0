"""Side workspaces: the graph with other runs, for sweeps and for the papers' tables."""
