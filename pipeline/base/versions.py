"""Check of versions: code that reaches into the insides of a library was made for one release of it."""

from __future__ import annotations

import sys
from importlib.metadata import version

_warned: set[str] = set()


def difference(package: str, made_for: str) -> str:
    """Return one sentence if the installed release is not ``made_for`` (major and minor number), else "".

    >>> difference("dvc", version("dvc")), difference("dvc", "1.0")[:59]
    ('', 'warning: facet changes insides of dvc 1.0, and here is dvc ')
    """
    installed = version(package)
    if installed.split(".")[:2] == made_for.split(".")[:2]:
        return ""
    return (
        f"warning: facet changes insides of {package} {made_for}, and here is {package} {installed}: "
        f"`pip install '{package}=={made_for}.*'` if something fails"
    )


def warn(package: str, made_for: str) -> None:
    """Print that sentence on standard error, once in this process."""
    sentence = difference(package, made_for)
    if sentence and package not in _warned:
        _warned.add(package)
        sys.stderr.write(sentence + "\n")
        sys.stderr.flush()
