"""What a run came to, in words and tables: pure text, shown in the terminal and as Prefect artifacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GOOD = ("executed", "restored", "unchanged")


@dataclass(frozen=True)
class Ended:
    """How one stage ended in a run."""

    name: str
    state: str
    """``executed``, ``restored``, ``unchanged``, ``failed``, ``stopped`` or ``skipped``."""
    message: str = ""
    command_s: float = 0.0
    device: str = ""

    @property
    def good(self) -> bool:
        """Whether the stage is up to date."""
        return self.state in GOOD


def sentence(ended: Iterable[Ended]) -> str:
    """Return a run in one sentence, which names what failed.

    >>> sentence([Ended("unpack", "executed"), Ended("train@a", "failed"), Ended("row@a", "skipped")])
    'failed: train@a; skipped, because they need it: row@a; 1 executed'
    """
    every = list(ended)
    counts = Counter(one.state for one in every)
    parts = []
    if failed := [one.name for one in every if one.state == "failed"]:
        parts.append(f"failed: {', '.join(failed)}")
    if skipped := [one.name for one in every if one.state == "skipped"]:
        parts.append(
            f"skipped, because they need {'it' if len(failed) < 2 else 'them'}: {', '.join(skipped)}"
        )
    parts += [f"{counts[state]} {state}" for state in (*GOOD, "stopped") if counts[state]]
    return "; ".join(parts) or "nothing to do"


def stage_rows(ended: Iterable[Ended]) -> list[dict[str, str]]:
    """Return a table of stages, one dictionary a row."""
    return [
        {
            "stage": one.name,
            "ended": one.state,
            "seconds": f"{one.command_s:.1f}" if one.command_s else "",
            "device": one.device,
            "message": one.message,
        }
        for one in ended
    ]


def report_folder(root: Path, table: str) -> Path:
    """Return where the stage `tabulate` writes a table."""
    return root / "results" / "tables" / table / "report"


def table(root: Path, name: str, format_: str) -> str:
    """Return a finished table in ``format_``: ``md``, ``csv``, ``html`` or ``tex``.

    Raises:
        LookupError: it is not there; the message says what is, or what to run.
    """
    folder = report_folder(root, name)
    path = folder / f"table.{format_}"
    if path.is_file():
        return path.read_text(encoding="utf-8").rstrip("\n")
    there = sorted(entry.stem for entry in (root / "tables").glob("*.yaml"))
    if name not in there:
        raise LookupError(f"no table {name!r}: there are {', '.join(there) or 'none'}")
    if others := sorted(entry.suffix[1:] for entry in folder.glob("table.*")):
        raise LookupError(f"table {name!r} is not written as {format_}, only as {', '.join(others)}")
    raise LookupError(f"table {name!r} has not been made yet: run `facet run {name}`")


def markdown(root: Path, tables: Sequence[str], links: Mapping[str, str]) -> str:
    """Return the tables that are there, each with its link to MLflow if ``links`` has one."""
    parts = []
    for table in tables:
        path = report_folder(root, table) / "table.md"
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8").strip()
        parts.append(text if text.startswith("#") else f"# {table}\n\n{text}")
        if table in links:
            parts.append(f"[Its runs in MLflow]({links[table]})")
    return "\n\n".join(parts) or "No table is finished yet."
