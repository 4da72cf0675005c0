"""Runs a piece of work again and again, with its 1st, 2nd, 3rd ... file operation failing, until a run is clean.

The failing is done by `failing.c`, loaded before libc into a process that imports what the work needs and then forks a
child for each try: real files, real system calls, no import paid twice.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stages.core.errors import InputError, OperationError
from tests.operations.case import FAULTS, OPERATIONS, Case, Fault

SOURCE = Path(__file__).with_name("failing.c")
LIBRARY = "OPERATIONS_TO_FAIL"
ENDLESS = 4000
"""More operations than any piece of work has."""


class Tried(NamedTuple):
    """What a child came to."""

    end: str
    """done, killed, or the error's kind and text."""
    expected: bool
    """It is an error that a program of ours shows as one sentence."""
    hit: bool
    """The fault was met; not: the run was clean."""
    operation: str
    """The first that failed."""


def build(folder: Path) -> Path | None:
    """Return the compiled library, or None where there is no C compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    library = folder / f"failing{sysconfig.get_config_var('SHLIB_SUFFIX') or '.so'}"
    flags = ["-shared", "-fPIC", "-O1", "-D_LARGEFILE64_SOURCE"]
    subprocess.run([compiler, *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def report(library: Path, folder: Path, cases: list[str], faults: list[str]) -> dict[str, Any]:
    """Run the cases in a process of its own; return for each its operations and what went wrong."""
    out = folder / "report.json"
    environment = {**os.environ, "LD_PRELOAD": str(library), LIBRARY: str(library), "OMP_NUM_THREADS": "1"}
    environment |= {"MKL_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
    environment.pop("FACET_HOME", None)
    request = json.dumps({"folder": str(folder), "out": str(out), "cases": cases, "faults": faults})
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.operations.harness", request], cwd=root, env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    tree: dict[str, Any] = json.loads(out.read_text())
    return tree


class Harness:
    """The process that has the library loaded."""

    def __init__(self, folder: Path) -> None:
        self.library = ctypes.CDLL(os.environ.pop(LIBRARY))
        os.environ.pop("LD_PRELOAD")  # programs that the work starts are not meant
        self.folder = folder.resolve()

    def run(self, case: Case, faults: list[Fault]) -> dict[str, Any]:
        """Return the operations of a clean run, the functions it ran, the number of tries and the problems found."""
        template = self._fresh(None)
        status, _, text = self._child(template, lambda: case.prepare() and None)
        assert status == 0, f"{case.name} cannot be prepared: {text}"
        before = self._looked(template, case)
        clean = self._fresh(template)
        ran, counts = self._clean_run(clean, case)
        after = self._looked(clean, case)
        assert after != before or case.best_effort, f"{case.name} changes nothing that a reader finds"
        tries, problems = 0, []
        for fault in faults:
            for found in self._tries(case, fault, template, before, after):
                tries += 1
                problems += found
        names = [fault.name for fault in faults]
        return {"operations": counts, "ran": ran, "tries": tries, "problems": problems, "faults": names}

    def _tries(
        self, case: Case, fault: Fault, template: Path, before: Any, after: Any
    ) -> Iterator[list[str]]:
        """Yield what is wrong after each try, until the fault is not met."""
        for number in range(1, ENDLESS):
            scene = self._fresh(template)
            tried = self._armed(scene / case.within, scene, case.work, fault, number)
            if not tried.hit:
                return
            where = f"{fault.name} at operation {number} ({tried.operation})"
            yield [f"{where}: {text}" for text in self._judged(case, scene, tried, before, after)]
        raise AssertionError(f"{case.name} has more than {ENDLESS} operations")

    def _judged(self, case: Case, scene: Path, tried: Tried, before: Any, after: Any) -> Iterator[str]:
        """Yield what is wrong after a fault, and after the next run."""
        if not tried.expected:
            yield f"it ended with {tried.end}"
        (found, problem), again, (later, problem_later) = self._afterwards(scene, case)
        if problem:
            yield f"then a reader meets {problem}"
        for key in sorted({*before, *after, *found}) if not problem else ():
            value = found.get(key)
            if value not in (before.get(key), after.get(key)) and not (value is None and key in case.may_vanish):
                yield f"then {key} is {_short(value)}, neither as before nor as after"
            elif tried.end == "done" and value != after.get(key) and not case.best_effort:
                yield f"it said nothing, and {key} is {_short(value)}"
        if again:
            yield f"the next run: {again}"
        if problem_later:
            yield f"after the next run a reader meets {problem_later}"
        for key in sorted({*after, *later}):
            if later.get(key) != after.get(key):
                yield f"after the next run {key} is {_short(later.get(key))}, not {_short(after.get(key))}"
        left = [path for path in scene.rglob("*.partial*") if not any(path.match(one) for one in case.stays)]
        yield from (f"after the next run {path.relative_to(scene)} is left over" for path in sorted(left)[:3])

    def _afterwards(self, scene: Path, case: Case) -> tuple[tuple[dict[str, Any], str], str, tuple[dict[str, Any], str]]:
        """Read, run again without a fault, read again: in one child, because a fork of torch's memory costs most."""

        def after() -> Any:
            return _caught(case.look), _caught(lambda: case.work() and None)[1], _caught(case.look)

        status, value, text = self._child(scene, after)
        if value is None:
            return ({}, ""), f"status {status} {text}", ({}, "")
        return value  # type: ignore[no-any-return]

    def _fresh(self, template: Path | None) -> Path:
        scene = self.folder / ("template" if template is None else "scene")
        shutil.rmtree(scene, ignore_errors=True)
        if template is None:
            scene.mkdir(parents=True)
        else:
            shutil.copytree(template, scene, symlinks=True)
        return scene

    def _clean_run(self, scene: Path, case: Case) -> tuple[list[str], dict[str, int]]:
        """Run without a fault; return our functions that ran, and how many operations of each kind."""

        names = self.folder / "ran"

        def watched() -> None:
            ran: set[str] = set()
            # a file of names: worker processes, which are forked with the profile, report there too
            told = os.open(names, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

            def note(frame: Any, event: str, argument: object) -> None:
                if event == "call" and (module := frame.f_globals.get("__name__", "")).startswith(("stages.", "pipeline.")):
                    function = f"{module}.{frame.f_code.co_qualname}"
                    if function not in ran:
                        ran.add(function)
                        os.write(told, f"{function}\n".encode())

            self.library.failing_arm(os.fsencode(os.path.normpath(scene / case.within)), 0, 1, 0, 0)
            sys.setprofile(note)
            try:
                case.work()
            finally:
                sys.setprofile(None)
                self.library.failing_disarm()

        status, _, text = self._child(scene, watched)
        assert status == 0, f"{case.name} fails without a fault: {text}"
        counts = {name: self.library.failing_seen(number) for number, name in enumerate(OPERATIONS)}
        return sorted(set(names.read_text().split())), counts

    def _armed(self, root: Path, scene: Path, work: Callable[[], object], fault: Fault, number: int) -> Tried:
        mask = sum(1 << OPERATIONS.index(name) for name in fault.of)

        def failing() -> tuple[str, bool]:
            self.library.failing_arm(os.fsencode(os.path.normpath(root)), number, fault.error, int(fault.lasting), mask)
            try:
                work()
            except BaseException as error:
                self.library.failing_disarm()
                return _said(error), _is_expected(error)
            self.library.failing_disarm()
            return "done", True

        self.library.failing_arm(b"/nowhere", 0, 1, 0, 0)
        self.library.failing_disarm()
        status, value, text = self._child(scene, failing)
        hit, operation = self.library.failing_hit() > 0, OPERATIONS[self.library.failing_operation()]
        if fault.error == 0 and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            return Tried("killed", True, hit, operation)
        if value is None:
            return Tried(f"status {status}: {text}", False, hit, operation)
        return Tried(value[0], value[1], hit, operation)

    def _looked(self, scene: Path, case: Case) -> dict[str, Any]:
        status, value, text = self._child(scene, case.look)
        assert status == 0, f"{case.name} cannot be read: {text}"
        return value  # type: ignore[no-any-return]

    def _child(self, scene: Path, work: Callable[[], Any]) -> tuple[int, Any, str]:
        """Fork a child that works in the scene; return its status, what the work returned, and its error."""
        answer = self.folder / "answer"
        answer.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            _work(scene, work, answer)
        status = os.waitpid(pid, 0)[1]
        if not answer.is_file():
            return status or 1, None, ""
        value, text = pickle.loads(answer.read_bytes())
        return (1 if text else status), value, text


def _work(scene: Path, work: Callable[[], Any], answer: Path) -> None:
    """Work in a child, leave the answer, and end; nothing of the parent's is cleaned up."""
    with Path(os.devnull).open("r+b") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    os.chdir(scene)
    given = _caught(work)
    answer.write_bytes(pickle.dumps(given))
    os._exit(0)


def _caught(work: Callable[[], Any]) -> tuple[Any, str]:
    """Return what the work returned, {} after an error, and the error."""
    try:
        return work(), ""
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return {}, f"{_said(error)} ({Path(place.filename).name}:{place.lineno})"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _is_expected(error: BaseException) -> bool:
    """Return whether a program of ours ends with one sentence because of it, as ``program.run`` does."""
    return isinstance(error, InputError | OperationError | OSError)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 200 else text[:200] + "..."


def main() -> None:
    """Run what is requested in the first argument, and write the report."""
    from tests.operations import cases

    request = json.loads(sys.argv[1])
    harness = Harness(Path(request["folder"]))
    faults = [FAULTS[name] for name in request["faults"]]
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # one worker where the work takes one for each core
    found: dict[str, Any] = {}
    for name in request["cases"]:
        found[name] = harness.run(cases.ALL[name], faults)
        Path(request["out"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
