"""The program of stage `track` ends with the process that started it, as those of `stages` do."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline import dummy

HANGS = """
import os, pathlib, sys, time
from pipeline import track; from pipeline.tracking import sync

def hang(**options):
    aside = pathlib.Path("pid.partial")
    aside.write_text(str(os.getpid()))
    aside.replace("pid")
    time.sleep(60)

sync.track = hang
track.main()
"""


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])  # sh stays between the two, bash does not
def test_track_ends_when_the_process_that_runs_dvc_is_killed(tmp_path: Path, shell: str) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    start = [shell, "-c", shlex.join([sys.executable, "hangs.py"])]
    dvc = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({start!r})"], cwd=tmp_path)
    try:
        dummy.wait_until((tmp_path / "pid").exists)
    finally:
        dvc.kill()
        dvc.wait()
    dummy.wait_until_dead(int((tmp_path / "pid").read_text()))
