"""`facet list` and docs/catalogue.md: made from the files themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.runtime import plugins
from stages.tools import catalogue
from tests.support import ROOT


def test_the_page_in_the_documents_is_what_the_files_say():
    said = (ROOT / "docs/catalogue.md").read_text(encoding="utf-8")
    assert said == catalogue.markdown(ROOT), "run `python -m stages.tools.catalogue --write docs/catalogue.md`"


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_everything_that_a_run_may_name_is_listed(kind: str):
    found = catalogue.entries(ROOT, kind)
    assert [entry.name for entry in found] == plugins.names(kind)
    assert all(entry.what for entry in found)


@pytest.mark.parametrize("kind", ["heads", "objectives", "backbones", "quality"])
def test_the_fields_are_those_of_the_config(kind: str):
    for entry in catalogue.entries(ROOT, kind):
        config = getattr(plugins.load(kind, entry.name), "Config", None)
        if entry.fields:
            assert config is not None
            assert set(entry.fields) <= set(config.model_fields)


def test_every_margin_head_names_its_paper():
    assert [entry.name for entry in catalogue.entries(ROOT, "heads") if not entry.paper] == []


def test_a_new_head_is_listed_by_its_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "stages/heads/mine.py"
    file.parent.mkdir(parents=True)
    file.write_text('"""Mine (I, 2026): a margin of my own."""\n\n\nclass Config:\n    name: str\n    margin: float = 0.5\n')
    catalogue.main(catalogue.parser().parse_args(["heads", "--root", str(tmp_path)]))
    said = capsys.readouterr().out.split("\n")
    assert said[:5] == [
        "mine", "    Mine: a margin of my own.", "    I, 2026", "    fields: margin", "    stages/heads/mine.py"
    ]  # fmt: skip


def test_a_kind_that_is_not_there_is_refused_with_those_there_are():
    with pytest.raises(LookupError, match="no kind 'nets': there are heads, objectives, backbones"):
        catalogue.entries(ROOT, "nets")
