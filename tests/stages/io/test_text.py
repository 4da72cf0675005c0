"""Text files as people's systems write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.io import text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_same_lines_come_out_of_every_encoding_and_line_end(tmp_path: Path, encoding: str, end: str):
    lines = ["José_Niño\t1", "Müller 2", ""]
    (tmp_path / "list.txt").write_bytes(end.join(lines).encode(encoding))
    assert text.read_lines(tmp_path / "list.txt") == lines


def test_bytes_that_no_code_page_knows_are_kept_apart(tmp_path: Path):
    assert text.decode(b"a\x81b\xff") == "a\x81bÿ"
