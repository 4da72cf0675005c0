"""MLflow records: what MLflow should hold, read from DVC's lock files, and written there."""
