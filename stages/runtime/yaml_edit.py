"""Edits of YAML files that people write: comments and lines that did not change stay as they are."""

from __future__ import annotations

import difflib
import io
import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stages.core.errors import InputError
from stages.runtime import files, yaml_text

WIDTH = 110


class YamlEdit:
    """One file with changes that are not written yet.

    ``tree`` is what the file holds: mappings and lists that keep their comments. Change it, then look at ``text`` or
    ``diff``, and ``write``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not YAML, or no mapping.
    """

    def __init__(self, path: Path) -> None:
        from ruamel.yaml.error import YAMLError  # late: it takes a while

        self.path, self.before = path, path.read_text(encoding="utf-8")
        try:
            self.tree: Any = _yaml().load(self.before)
        except YAMLError as error:
            raise InputError(f"{path} is not YAML: {error}") from error
        if not isinstance(self.tree, dict):
            raise InputError(f"{path} should hold a mapping, got {type(self.tree).__name__}")

    def section(self, name: str) -> Any:
        """Return a mapping directly in the file, which is added if it is not there or empty."""
        if not self.tree.get(name):
            self.tree[name] = _block({})
        return self.tree[name]

    def text(self) -> str:
        """Return the file with the changes."""
        changed = _dumped(self.tree)
        lines = _merged(_dumped(_yaml().load(self.before)), self.before.splitlines(keepends=True), changed)
        if yaml_text.parse("".join(lines)) != yaml_text.parse("".join(changed)):
            return "".join(changed)  # a layout of lines that the merge does not know
        return "".join(lines)

    def diff(self) -> str:
        """Return the change as a unified diff, empty if there is none."""
        return diff(str(self.path), self.before, self.text())


def diff(name: str, before: str, after: str) -> str:
    """Return a unified diff of a file; of a new one if ``before`` is empty."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, name if before else "/dev/null", name))


def write_all(texts: Mapping[Path, str]) -> None:
    """Write several files: all are written aside before the first is moved to its place.

    They are moved in reverse: the first may name the others, which are then there.
    """
    with ExitStack() as stack:
        for path, text in texts.items():
            stack.enter_context(files.replacing(path)).write_text(text, encoding="utf-8")


def block(tree: Mapping[str, Any]) -> Any:
    """Return a mapping with a line per key, each value on that line in braces."""
    return _block({key: flow(value) for key, value in tree.items()})


def plain(tree: Any) -> Any:
    """Return mappings, lists and numbers of an edited file as Python's own."""
    if isinstance(tree, dict):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    for kind in (bool, int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    return tree


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width, yaml.preserve_quotes = WIDTH, True
    return yaml


def _dumped(tree: Any) -> list[str]:
    stream = io.StringIO()
    _yaml().dump(tree, stream)
    return stream.getvalue().splitlines(keepends=True)


def _block(tree: Mapping[str, Any]) -> Any:
    from ruamel.yaml.comments import CommentedMap

    return CommentedMap(tree)


def flow(value: Any) -> Any:
    """Return mappings and lists on one line in braces and brackets, but for what ``block`` made."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import SingleQuotedScalarString

    if isinstance(value, CommentedMap):
        return value
    if isinstance(value, str):
        # `1:1` is text in YAML 1.2 and the number 61 in 1.1
        quoted = yaml_text.dump([value]).startswith(("- '", '- "'))
        return SingleQuotedScalarString(value) if quoted else value
    made: Any = value
    if isinstance(value, Mapping):
        made = CommentedMap({key: flow(one) for key, one in value.items()})
    elif isinstance(value, list | tuple):
        made = CommentedSeq([flow(one) for one in value])
    if made is not value:
        made.fa.set_flow_style()
    return made


def _merged(base: Sequence[str], mine: Sequence[str], changed: Sequence[str]) -> list[str]:
    """Return the lines of ``mine`` with what differs between ``base``, which is ``mine`` rewritten, and ``changed``."""
    steps = difflib.SequenceMatcher(None, base, changed, autojunk=False).get_opcodes()
    parts = difflib.SequenceMatcher(None, base, mine, autojunk=False).get_opcodes()
    lines: list[str] = []
    for kind, begin, end, new_begin, new_end in steps:
        if kind == "equal":
            lines += _as_written(begin, end, base, mine, parts)
            continue
        new = list(changed[new_begin:new_end])
        # blank lines and comments that end a section stay behind what is added to it
        added = list(itertools.takewhile(lambda line: line.startswith(" "), new))
        after: list[str] = []
        while added and lines and not lines[-1].startswith(" ") and not lines[-1].split("#")[0].strip():
            after.insert(0, lines.pop())
        lines += [*added, *after, *new[len(added) :]]
    return lines


def _as_written(
    begin: int, end: int, base: Sequence[str], mine: Sequence[str], parts: Sequence[tuple[str, int, int, int, int]]
) -> list[str]:
    """Return the lines of ``mine`` that stand for the lines from ``begin`` to ``end`` of ``base``."""
    lines: list[str] = []
    for kind, low, high, mine_low, mine_high in parts:
        first, last = max(low, begin), min(high, end)
        if kind == "equal":
            lines += mine[mine_low + first - low : mine_low + last - low] if first < last else []
        elif begin <= low and high <= end and (low < high or low < end or end == len(base)):
            lines += mine[mine_low:mine_high]
        elif first < last:
            lines += base[first:last]
    return lines
