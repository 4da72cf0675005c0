"""The Prefect and MLflow servers of a project: started, found again, stopped."""
