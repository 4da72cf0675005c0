"""The command `facet`. Every command imports only what it needs.

Commands stand by topic, one module each; importing one registers its commands, in the order of the help.
"""

from __future__ import annotations

from pipeline.cli import ablations, run, servers, show, tools
from pipeline.cli.app import app

__all__ = ["ablations", "app", "run", "servers", "show", "tools"]
