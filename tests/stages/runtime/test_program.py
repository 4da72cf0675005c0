from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import argparse, sys, time
from stages.runtime import program
def main(arguments):
    {body}
sys.exit(program.run(main, argparse.ArgumentParser()))
"""


def start(body: str, **environment: str) -> subprocess.Popen[str]:
    code = PROGRAM.format(body=body)
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


def test_bad_input_is_one_sentence_and_exit_code_2():
    child = start("raise __import__('stages.core.errors').core.errors.UnknownNameError('no run named x: there are y')")
    _, err = child.communicate(timeout=60)
    assert child.returncode == 2
    assert err == "error: no run named x: there are y\n"


@pytest.mark.parametrize("defect", ["assert False", "{}['columns']", "int('x')", "raise RuntimeError('x')"])
def test_a_defect_of_ours_keeps_its_traceback(defect: str):
    child = start(defect)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "Traceback (most recent call last)" in err
    assert "error:" not in err


@pytest.mark.parametrize("error", [
    "MemoryError('Unable to allocate 9.31 GiB for an array')",
    "RuntimeError(\"[enforce fail at alloc_cpu.cpp:125] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes\")",
])  # fmt: skip
def test_memory_that_there_is_not_is_one_sentence(error: str):
    child = start(f"raise {error}")
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err.count("\n")) == (2, 1)
    assert err.startswith("error: there is no memory left (")


def test_a_reader_that_has_seen_enough_is_no_error():
    child = start("time.sleep(.1); print('x', flush=True)")
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    with child.stderr:
        assert child.stderr.read() == ""
    assert child.wait(timeout=60) == 141


def test_another_broken_pipe_is_an_error():
    child = start("import os; ends = os.pipe(); os.close(ends[0]); os.write(ends[1], b'x')")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (2, "", "error: [Errno 32] Broken pipe\n")


def test_a_user_that_the_system_does_not_know_has_a_name(monkeypatch: pytest.MonkeyPatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    # before `run` names the user, as in a container that was started with --user
    gone = "__import__('pwd').getpwuid = lambda user: {}[user]"
    code = PROGRAM.format(body="print(__import__('getpass').getuser())").replace("import argparse", f"{gone}\nimport argparse")
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=False)
    assert (answer.stdout, answer.stderr) == (f"uid{os.getuid()}\n", "")


@pytest.mark.parametrize(("error", "code"), [("ValueError", 1), ("OSError", 2)])
def test_a_program_that_others_wait_for_leaves_without_clean_up_once_it_has_said_why(error: str, code: int):
    late = "__import__('atexit').register(lambda: print('clean-up'))"
    child = start(f"{late}; program.leave_at_once(); raise {error}('the reason')")
    out, err = child.communicate(timeout=60)
    assert child.returncode == code
    assert err.startswith("Traceback" if code == 1 else "error: ")
    assert "the reason" in err
    assert "clean-up" not in out


def test_sigterm_ends_a_stage_with_143_and_says_that_work_is_kept():
    child = start("print('ready', flush=True); time.sleep(60)")
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 143
    assert "run again to resume" in err


@pytest.mark.parametrize("shell", [None, "/bin/bash", "/bin/sh"])
def test_a_stage_dies_when_the_process_that_started_it_is_killed(tmp_path: Path, shell: str | None):
    inner = PROGRAM.format(body=f"open({str(tmp_path / 'pid')!r}, 'w').write(str(__import__('os').getpid())); time.sleep(60)")
    outer = textwrap.dedent(f"""
        import shlex, subprocess, sys
        command = [sys.executable, "-c", {inner!r}]
        # as DVC starts its commands: sh stays between it and the program, bash does not
        subprocess.run([{shell!r}, "-c", shlex.join(command)] if {shell!r} else command)
    """)
    parent = subprocess.Popen([sys.executable, "-c", outer], cwd=ROOT)
    deadline = time.monotonic() + 30
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        assert time.monotonic() < deadline, "the stage did not start"
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while alive(pid):
        assert time.monotonic() < deadline, "the stage outlived its parent"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
