"""The command `facet`. Every command imports only what it needs.

Commands stand by topic in ``cli_*.py``; importing one registers its commands, in the order of the help.
"""

from __future__ import annotations

from pipeline import cli_ablations, cli_run, cli_servers, cli_show, cli_tools
from pipeline.cli_base import app

__all__ = ["app", "cli_ablations", "cli_run", "cli_servers", "cli_show", "cli_tools"]

if __name__ == "__main__":
    app()
