"""The DVC graph and its execution: stages that are stale, one process each, their logs and history."""
