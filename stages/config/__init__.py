"""The configuration of params.yaml, checked: runs, training, evaluation, tables."""
