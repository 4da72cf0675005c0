"""HTML pages of a run's quality methods: one per method, and an overview."""
