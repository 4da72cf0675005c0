"""Common part of `facet add` and `facet add-run`: checks a change of parameters, shows it, and writes it on request."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax

from stages.config import params
from stages.core.errors import InputError
from stages.runtime import yaml_edit

PARAMS = Path("params.yaml")


def check(texts: Mapping[Path, str]) -> params.Params:
    """Return the parameters as they would be with changed files; nothing is written.

    Args:
        texts: of params.yaml and of files under tables/, by path from the project's folder.

    Raises:
        ValueError, LookupError: they would not fit; as ``params.load`` says it.
    """
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder)
        (aside / "profiles").symlink_to(Path("profiles").absolute())
        (aside / "tables").mkdir()
        for path in Path("tables").glob("*.yaml"):
            (aside / path).write_bytes(path.read_bytes())
        (aside / PARAMS).write_bytes(PARAMS.read_bytes())
        for path, text in texts.items():
            (aside / path).write_text(text, encoding="utf-8")
        return params.load(aside)


def offer(texts: Mapping[Path, str], *, yes: bool) -> bool:
    """Show what would change, ask unless ``yes``, and write; return whether it was written.

    Raises:
        ValueError: nobody can be asked.
    """
    console = Console(highlight=False)
    for path, text in texts.items():
        shown = yaml_edit.diff(str(path), path.read_text(encoding="utf-8") if path.is_file() else "", text)
        if console.is_terminal:
            console.print(Syntax(shown, "diff", background_color="default"))
        else:
            print(shown, end="")
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("nothing was written: nobody can be asked here; --yes writes it")
        if input("Write this? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was written.")
            return False
    yaml_edit.write_all(texts)
    print(f"Written: {', '.join(map(str, texts))}.")
    return True
