"""RecordIO files: reading, writing, index."""
