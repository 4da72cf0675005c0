"""docs/models.md: the walk through all commands runs as it stands there."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest

from stages.models import model_files
from stages.runtime import program
from tests.stages import small_sets
from tests.support import ROOT

MODULES = {"import": "import_model", "models": "models", "verify": "verify", "export": "export"}


@pytest.mark.slow
def test_the_whole_way_of_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "models.yaml", tmp_path)
    small_sets.write_bin(tmp_path / "eval/lfw.bin", num_pairs=20)
    page = (ROOT / "docs/models.md").read_text().partition("## The whole way")[2]
    blocks = re.findall(r"```(python|sh)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "sh", "python"]
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, "docs/models.md", "exec"), {})
            continue
        for line in text.splitlines():
            facet, command, *words = shlex.split(line)
            assert facet == "facet"
            tool = importlib.import_module(f"stages.tools.{MODULES[command]}")
            assert program.run(tool.main, tool.parser(), words) == 0, capsys.readouterr().err
    assert model_files.read_model(tmp_path / "models/tiny_insightface").source.family == "insightface"


def test_the_page_names_every_option_of_its_commands():
    page = (ROOT / "docs/models.md").read_text()
    for name in ("--published", "--architecture", "--color-order", "--value-range", "--insightface", "--layout"):
        assert name in page
