"""The Prefect flow run: starts it, runs its tasks, shows its progress and settles how it ended."""
