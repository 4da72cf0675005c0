"""Several machines: workers of a Prefect work pool, and what travels to and from them."""
