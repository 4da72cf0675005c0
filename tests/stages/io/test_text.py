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
    (tmp_path / "list.txt").write_bytes(b"a\x81b\xff")
    assert text.read_lines(tmp_path / "list.txt") == ["a\x81bÿ"]


@pytest.mark.parametrize("block", [1, 2, 3])
def test_an_encoding_is_told_however_a_file_is_cut_into_blocks(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text, "_BLOCK", block)
    for written, encoding in (("é名", "utf-8-sig"), ("éé".encode()[:-1].decode("latin-1"), "cp1252")):
        (tmp_path / "list.txt").write_bytes(written.encode("utf-8" if encoding == "utf-8-sig" else "latin-1"))
        assert text.encoding_of(tmp_path / "list.txt") == encoding


def test_a_name_of_ascii_is_looked_for_as_it_is(tmp_path: Path):
    assert text.existing(tmp_path, "a.jpg") == tmp_path / "a.jpg"
    assert text.existing(tmp_path, "é.jpg") == tmp_path / "é.jpg"
