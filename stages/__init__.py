"""What is run: each top-level module is one DVC stage, read top to bottom. Knows neither Prefect nor MLflow."""
