"""What every stage program shares: its process, progress, artifacts, plugins and device."""
