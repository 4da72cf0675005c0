"""Reads and writes single entries of a dvc.lock; DVC parses and writes the whole file for every stage.

DVC's way costs 3.5 s of CPU a stage, most of it under its lock, where a file has 70 entries of 50 dependencies each:
more than an hour for all stages of a large ablation, one after the other. An entry by itself costs milliseconds, at
any number. What is written is what DVC would have written; a file that is not as DVC writes it is left to DVC.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = "schema: '2.0'\nstages:\n"
NAME = re.compile(r"  ([A-Za-z_][\w.@+/-]*):\n")
OUTER = re.compile(r"^(?!   ).*\n?", re.MULTILINE)
"""A line outside the entries, which are indented by four spaces or more."""
NOT_TEXT = {"true", "false", "null"}
"""Names that YAML would read as another type."""


def spans(text: str) -> dict[str, tuple[int, int]] | None:
    r"""Return where each stage's entry begins and ends; None if the file is not formatted as DVC writes it.

    >>> text = HEAD + "  a:\n    cmd: x\n  b@1:\n    cmd: y\n"
    >>> {name: text[begin:end] for name, (begin, end) in spans(text).items()}
    {'a': '  a:\n    cmd: x\n', 'b@1': '  b@1:\n    cmd: y\n'}
    >>> spans(text + "datasets: []\n") is spans("<<<<<<< ours\n" + text) is None
    True
    """
    if not text.startswith(HEAD) or not text.endswith("\n"):
        return None
    found: list[tuple[str, int]] = []
    for line in OUTER.finditer(text, len(HEAD)):
        if line.start() == line.end():
            continue
        name = NAME.fullmatch(line[0])
        if name is None or name[1].lower() in NOT_TEXT:
            return None
        found.append((name[1], line.start()))
    ends = [begin for _, begin in found[1:]] + [len(text)]
    by_name = {name: (begin, end) for (name, begin), end in zip(found, ends, strict=True)}
    return by_name if len(by_name) == len(found) else None


def replaced(text: str, entry: str) -> str | None:
    """Return ``text`` with one entry, itself a whole file, replaced or appended; None: leave it to DVC."""
    places, own = spans(text), spans(entry)
    if places is None or own is None or len(own) != 1 or "&id" in entry:
        return None
    ((name, (first, last)),) = own.items()
    begin, end = places.get(name, (len(text), len(text)))
    return text[:begin] + entry[first:last] + text[end:]


class Entries(Mapping[str, Any]):
    """The entries of a dvc.lock by stage name, each read on demand."""

    def __init__(self, text: str, places: Mapping[str, tuple[int, int]], path: str) -> None:
        self.text, self.places, self.path = text, places, path

    def __getitem__(self, name: str) -> Any:
        from dvc.dvcfile import Lockfile
        from dvc.utils.serialize import parse_yaml

        begin, end = self.places[name]
        tree = parse_yaml(HEAD + self.text[begin:end], self.path)
        Lockfile.validate(tree, self.path)
        return tree["stages"][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def install() -> None:
    """Patch DVC in this process to read and write entries one by one."""
    from dvc import dvcfile
    from dvc.dvcfile import Lockfile

    # what is left to DVC, a first entry too, is written aside as well
    dvcfile.modify_yaml = _modify_aside
    if Lockfile.dump_stages is not _dump_stages:
        global _their_load, _their_dump_stages
        _their_load, _their_dump_stages = Lockfile.load, Lockfile.dump_stages
        Lockfile.load, Lockfile.dump_stages = _load, _dump_stages


_their_load: Any = None
_their_dump_stages: Any = None


def _text(lockfile: Any) -> str:
    """Return the file's text; "" if it is missing or DVC must judge it."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return Path(lockfile.path).read_bytes().decode() if lockfile.exists() else ""
    return ""


def _load(self: Any, **options: Any) -> Any:
    text = _text(self)
    places = None if options else spans(text)
    if places is None:
        return _their_load(self, **options)
    self._check_gitignored()
    return {"schema": "2.0", "stages": Entries(text, places, self.path)}


def _dump_stages(self: Any, stages: Sequence[Any], **options: Any) -> None:
    from dvc.dvcfile import logger
    from dvc.stage.serialize import to_lockfile
    from dvc.utils.serialize import dumps_yaml

    before = _text(self)
    text: str | None = before
    for stage in stages:
        entry = dumps_yaml({"schema": "2.0", "stages": to_lockfile(stage, **options)})
        text = replaced(text, entry) if text is not None else None
    if text is None:
        _their_dump_stages(self, stages, **options)
    elif text != before:
        logger.info("Updating lock file '%s'", self.relpath)
        _write(Path(self.path).resolve(), text)
        self.repo.scm_context.track_file(self.relpath)


@contextlib.contextmanager
def _modify_aside(path: str, fs: Any = None) -> Iterator[Any]:
    """Let DVC change a YAML file, whole or not at all; ``fs`` is that of the workspace, which is this machine's."""
    from dvc.utils.serialize import modify_yaml

    with _aside(Path(path).resolve()) as aside:
        if Path(path).is_file():
            shutil.copyfile(path, aside)
        with modify_yaml(str(aside)) as tree:
            yield tree


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with _aside(path) as aside:
        aside.write_bytes(text.encode())


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which then takes the place of ``path``: a full disk or a kill leaves the one before."""
    # of one name, for the next write to take: who writes holds DVC's lock
    aside = path.with_name(f"{path.name}.partial")
    try:
        yield aside
        if path.exists():
            shutil.copymode(path, aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
