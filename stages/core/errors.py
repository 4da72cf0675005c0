"""Exceptions for what a person or the machine did, apart from bugs: programs print their message alone.

Everything else that is raised is a bug of facet's, or of a library, and keeps its traceback.
"""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be used: parameters, files or options. The message: what was wanted, what came, what to do."""


class UnknownNameError(InputError, LookupError):
    """A name that does not exist, of a run, a table or a file's part; the message lists those that do."""


class OperationError(RuntimeError):
    """A program, server or disk that facet needs failed; the message names it, and its log where there is one."""
