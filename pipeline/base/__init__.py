"""Where a project is, and files and environment variables of its programs."""
