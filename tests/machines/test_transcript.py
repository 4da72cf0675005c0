"""What the proof writes into docs/machines.md names no machine; the proof itself takes minutes and runs elsewhere."""

from __future__ import annotations

from tests.machines import proof
from tests.support import ROOT


def test_a_transcript_names_neither_folder_nor_host() -> None:
    lines = [
        "The DVC remote is `/tmp/facet-machines-x1/store`. Done on vm.",
        "Worker 'gpus on vm (02c08c36)' started!",
        "Worker 'gpus on vmware (02c08c36)' started!",
    ]
    assert proof.neutral(lines, "/tmp/facet-machines-x1", "vm") == [
        "The DVC remote is `<folder>/store`. Done on vm.",
        "Worker 'gpus on desk (02c08c36)' started!",
        "Worker 'gpus on vmware (02c08c36)' started!",
    ]


def test_the_transcripts_in_the_manual_are_neutral() -> None:
    text = (ROOT / "docs/machines.md").read_text(encoding="utf-8")
    for name in ("folder", "s3"):
        lines = text.split(proof.BEGIN.format(name))[1].split(proof.END.format(name))[0].splitlines()
        joined = [line for line in lines if "started!" in line]
        assert len(joined) == 3
        assert all(" on desk (" in line for line in joined)
        assert not [line for line in lines if "/tmp/" in line]
