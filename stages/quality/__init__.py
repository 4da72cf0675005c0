"""Quality methods (one score per image, higher is better): one file each, the file name is its name."""
