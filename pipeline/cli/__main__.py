"""`python -m pipeline.cli`: the command `facet`."""

from pipeline.cli import app

app()
