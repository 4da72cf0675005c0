"""When things run: the DVC graph as Prefect flows, device leases, MLflow records. Knows no face recognition."""
