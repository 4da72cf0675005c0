"""Classification heads (feature, label -> loss): one file per head, named after it."""
