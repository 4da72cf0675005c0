"""Classification heads (feature, label -> loss): one file each, the file name is its name."""
