"""The proof in docs/machines.md: a run over clones that share only git, DVC's remote and Prefect's API.

`python -m tests.machines.proof` starts the servers it needs and prints the transcript as Markdown; `--s3` puts an
S3-compatible server of loopback (moto) between the clones in place of a folder; `--write FILE` replaces what stands
there between the marks. Every line that says what happened is asserted first.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.base import environment
from pipeline.servers import servers
from tests.machines.network import Machine, Network, end

POOL = "gpus"
HERE = {"resolve", "unpack", "tabulate@heads"}
"""What belongs to no training run, and so stays on the coordinator."""
BEGIN, END = "<!-- transcript of {}: begin -->", "<!-- transcript of {}: end -->"
S3_ACCESS = {
    "AWS_ACCESS_KEY_ID": "facet",
    "AWS_SECRET_ACCESS_KEY": "facet",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Transcript:
    """Markdown of the commands and their results."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        print(text, flush=True)
        self.lines += [text, ""]

    def shell(self, machine: str, command: str, output: str) -> None:
        block = ["```console", f"{machine}$ {command}", *output.strip().splitlines(), "```"]
        print("\n".join(block), flush=True)
        self.lines += [*block, ""]


def prove(network: Network, transcript: Transcript, trainings: int, workers: tuple[str, ...]) -> None:
    """Run a project over several clones, lose it, and get it back."""
    network.found(trainings, {"train_backbone": 15, "evaluate_hq": 1})
    coordinator = network.machine("coordinator")
    others = [network.machine(name) for name in workers]
    transcript.note(
        f"{1 + len(others)} clones: coordinator, {', '.join(workers)}. The DVC remote is `{network.store_url}`. "
        f"The project: {trainings} trainings of 15 s, an evaluation of 1 s for each, a table."
    )
    processes = [each.start_worker(POOL) for each in others]
    try:
        for each in others:
            transcript.shell(each.name, f"facet worker --pool {POOL} &", _log(each))
        _spread(network, coordinator, others, transcript)
        _lost(network, transcript, Counter(_all([coordinator, *others])))
    finally:
        end(processes)


def _spread(network: Network, coordinator: Machine, others: list[Machine], transcript: Transcript) -> None:
    params = coordinator.params()
    coordinator.edit("r0", margin=0.77)
    transcript.note("The coordinator's margin of `r0` is edited and not committed: workers get it all the same.")
    began_s = time.monotonic()
    answer = coordinator.facet("run", "--pool", POOL, "--no-track")
    wall_s = time.monotonic() - began_s
    transcript.shell(coordinator.name, f"facet run --pool {POOL}", _result(answer.stdout))
    stages = {"resolve", "unpack", "tabulate@heads"}
    stages |= {f"{kind}@{run}" for kind in ("train_backbone", "evaluate_hq") for run in params["runs"]}
    by_machine = {each.name: each.executed() for each in [coordinator, *others]}
    total = sum(by_machine.values(), Counter())
    assert total == Counter(dict.fromkeys(stages, 1)), total
    assert set(by_machine["coordinator"]) == HERE, by_machine
    assert all(by_machine[each.name] for each in others), by_machine
    for run in params["runs"]:
        (together,) = [name for name, ran in by_machine.items() if f"train_backbone@{run}" in ran]
        assert f"evaluate_hq@{run}" in by_machine[together], by_machine
    work_s = len(params["runs"]) * 16
    transcript.note(
        f"Each of the {len(stages)} stages was executed once, in {wall_s:.0f} s wall for {work_s} s of sleeping:"
    )
    transcript.lines += ["| machine | executed |", "|---|---|"]
    transcript.lines += [f"| {name} | {', '.join(sorted(ran))} |" for name, ran in by_machine.items()] + [""]
    status = coordinator.run("dvc", "status").stdout
    assert status.strip() == "Data and pipelines are up to date."
    transcript.shell(coordinator.name, "dvc status", status)
    assert coordinator.lock_entries() == stages
    metrics = coordinator.path / "results/r0/hq.json"
    assert "evaluate_hq@r0" in metrics.read_text()
    transcript.shell(coordinator.name, "cat results/r0/hq.json  # cache: false", metrics.read_text())
    for each in others:
        assert each.lock_entries() == set()
        assert each.run("git", "status", "--porcelain").stdout == ""
    transcript.note("In the workers' clones nothing has changed, and there is no dvc.lock: only the coordinator's is written.")
    assert network.references() == ["refs/heads/main"]
    again = coordinator.facet("run", "--pool", POOL, "--no-track").stdout
    assert "nothing to do" in again
    transcript.shell(coordinator.name, f"facet run --pool {POOL}", again)


def _lost(network: Network, transcript: Transcript, before: Counter[str]) -> None:
    """Check a new machine that has only the clone: all results are restored, and nothing runs."""
    heir = network.machine("heir")
    heir.edit("r0", margin=0.77)
    answer = heir.facet("run", "--pool", POOL, "--no-track")
    transcript.note("The coordinator's disk is lost; a new clone, without dvc.lock, takes its place:")
    transcript.shell(heir.name, f"facet run --pool {POOL}", _result(answer.stdout))
    assert set(heir.executed()) == HERE, heir.executed()
    assert heir.run("dvc", "status").stdout.strip() == "Data and pipelines are up to date."
    transcript.note(
        f"It executed {', '.join(sorted(heir.executed()))}, which had not left the old one, and restored the other "
        f"{sum(before.values()) - len(HERE)} from the DVC remote; the workers executed nothing."
    )


def _all(machines: list[Machine]) -> Counter[str]:
    return sum((each.executed() for each in machines), Counter())


def _log(machine: Machine) -> str:
    return "\n".join(line for line in machine.worker_log.read_text().splitlines() if "started" in line)


def _result(output: str) -> str:
    return "\n".join(line for line in output.splitlines() if line.startswith(("completed", "failed", "nothing")))


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Both servers, of a project that no clone belongs to; yields the address of Prefect's API."""
    folder.mkdir(parents=True)
    try:
        yield servers.up(folder, print, {servers.PREFECT: 0, servers.MLFLOW: 0})[servers.PREFECT].url + "/api"
    finally:
        servers.down(folder)


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """An S3-compatible loopback server with one bucket; yields its address."""
    port = environment.free_port(0)
    with (folder / "s3.log").open("w") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url)
        request = urllib.request.Request(f"{url}/facet", method="PUT", headers={"Authorization": "AWS facet:facet"})
        urllib.request.urlopen(request, timeout=10).close()
        yield url
    finally:
        process.terminate()
        process.wait()


def _await(url: str) -> None:
    until_s = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < until_s, f"{url} does not answer"
            time.sleep(0.2)


def write(path: Path, name: str, lines: list[str]) -> None:
    """Replace the text in ``path`` between the marks of a transcript."""
    text = path.read_text(encoding="utf-8")
    begin, finish = BEGIN.format(name), END.format(name)
    before, rest = text.split(begin)
    after = rest.split(finish)[1]
    path.write_text(before + begin + "\n" + "\n".join(lines) + finish + after, encoding="utf-8")


def neutral(lines: list[str], folder: str, host: str) -> list[str]:
    """Return ``lines`` without names of this machine: the temporary ``folder`` and its ``host`` name."""
    at_host = re.compile(rf" on {re.escape(host)} \(")
    return [at_host.sub(" on desk (", line.replace(folder, "<folder>")) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--s3", action="store_true", help="an S3-compatible server as the DVC remote; needs dvc-s3 and moto")
    parser.add_argument("--trainings", type=int, default=4)
    parser.add_argument("--write", type=Path, help="Markdown in which to replace the transcript")
    arguments = parser.parse_args()
    os.environ.update(environment.for_children())
    folder, transcript = Path(tempfile.mkdtemp(prefix="facet-machines-")), Transcript()
    workers = ("west", "east", "north")
    try:
        with prefect_server(folder / "server") as api_url:
            if arguments.s3:
                with s3_server(folder) as url:
                    config = [("endpointurl", url)]
                    network = Network(folder, api_url, "s3://facet/store", config, S3_ACCESS)
                    prove(network, transcript, arguments.trainings, workers)
            else:
                (folder / "store").mkdir()
                prove(Network(folder, api_url, str(folder / "store")), transcript, arguments.trainings, workers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.write:
        lines = neutral(transcript.lines, str(folder), socket.gethostname())
        write(arguments.write, "s3" if arguments.s3 else "folder", lines)


if __name__ == "__main__":
    main()
