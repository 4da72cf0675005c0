"""Quality methods (one score per image, higher is better): one file per method, named after it."""
