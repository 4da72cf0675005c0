"""The stage `unpack`: records that are bad, runs that fail and runs that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from stages import unpack
from stages.core.recordio.reader import Header, pack
from stages.datasets import insightface_rec
from stages.datasets.insightface_rec import TrainSet
from tests.stages import unpacking
from tests.stages.unpacking import IMAGES, OUT, configure, jpeg, run, write_plain
from tests.support import ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    unpacking.write()
    return tmp_path


def flip(path: str, at: int, bit: int = 0) -> None:
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 1 << bit
    Path(path).write_bytes(data)


def bad_payloads() -> dict[int, tuple[bytes, str]]:
    def with_label(label: float, image: bytes) -> bytes:
        return pack(Header(0, label, 0, 0), image)

    return {
        1: (with_label(0.0, jpeg(1)[:-40]), "bytes are not an image, or are truncated"),
        3: (with_label(0.0, b"GIF89a and nothing else"), "bytes are not an image"),
        4: (with_label(0.5, jpeg(4)), "label 0.5: wanted a whole number from 0"),
        6: (with_label(0.0, b""), "it has no image"),
        7: (b"short", "wanted a header of 24 bytes, got 5"),
        8: (with_label(float(1 << 24), jpeg(8)), "label 16777216.0"),
    }


def write_with_bad_records() -> None:
    bad = {key: payload for key, (payload, _) in bad_payloads().items()}
    write_plain([bad.get(key, pack(Header(0, 2.0, key, 0), jpeg(key))) for key in range(10)])


def test_bad_records_within_the_limit_are_listed_and_left_out(project: Path):
    configure(export="folder", max_bad_records=6)
    write_with_bad_records()
    card = run()
    assert [record["key"] for record in card["bad_records"]] == sorted(bad_payloads())
    train = TrainSet.open("data/tiny/train")
    for record in card["bad_records"]:
        assert bad_payloads()[record["key"]][1] in record["problem"]
        assert record["offset"] == train.reader.offset(record["key"])
    assert pd.read_parquet(OUT / "manifest.parquet")["key"].tolist() == [0, 2, 5, 9]
    assert {path.name for path in OUT.glob("images/*/*")} == {"0.jpg", "2.jpg", "5.jpg", "9.jpg"}
    assert card["images"] == 4


def test_one_bad_record_past_the_limit_fails_and_lists_all_of_them(project: Path):
    configure(max_bad_records=5)
    write_with_bad_records()
    with pytest.raises(
        ValueError, match=r"train\.rec: 6 bad records of 10; .* allows 5\. record 1 at byte \d+: "
    ) as caught:
        run()
    path = Path(str(caught.value).rsplit(" ", 1)[1])
    assert [record["key"] for record in json.loads(path.read_text())["bad_records"]] == sorted(bad_payloads())
    assert not OUT.exists()


def test_damaged_framing_of_one_record_is_a_bad_record(project: Path):
    configure(max_bad_records=1)
    flip("data/tiny/train/train.rec", TrainSet.open("data/tiny/train").reader.offset(7))
    card = run()
    assert [(record["key"], record["problem"][:15]) for record in card["bad_records"]] == [
        (7, "wanted 0xced723")
    ]
    assert card["images"] == 19
    assert card["layout"]["identity_ranges"]["disagree"] == 0


def test_a_damaged_identity_record_is_a_bad_record(project: Path):
    flip("data/tiny/train/train.rec", TrainSet.open("data/tiny/train").reader.offset(23))
    with pytest.raises(ValueError, match=r"1 bad records of 26; .* record 23 at byte"):
        run()


def test_identity_ranges_that_contradict_the_labels_are_told(
    project: Path, capfd: pytest.CaptureFixture[str]
):
    offset = TrainSet.open("data/tiny/train").reader.offset(9)
    # label 2.0 is 00 00 00 40; bit 6 of its last byte makes it 0.0
    flip("data/tiny/train/train.rec", offset + 8 + 24 + 3, bit=6)
    card = run()
    assert card["layout"]["identity_ranges"] == {"declared": 5, "found": 5, "disagree": 1}
    assert "1 of 5 identity ranges disagree" in capfd.readouterr().err


def test_what_the_decoder_complains_of_is_told_with_the_record(
    project: Path, capfd: pytest.CaptureFixture[str]
):
    # bytes before the end marker that belong to nothing: decoded by all, complained of by libjpeg
    odd = jpeg(5)[:-2] + b"odd bytes" + jpeg(5)[-2:]
    write_plain([pack(Header(0, 0.0, key, 0), odd if key == 2 else jpeg(key)) for key in range(4)])
    card = run()
    assert [record["key"] for record in card["suspect_records"]] == [2]
    assert "extraneous bytes" in card["suspect_records"][0]["problem"]
    assert card["images"] == 4
    assert "extraneous" not in capfd.readouterr().err


def test_a_set_without_any_sound_image_fails_whatever_the_limit(project: Path):
    configure(max_bad_records=100)
    write_plain([pack(Header(0, 0.0, key, 0), b"no image") for key in range(3)])
    with pytest.raises(ValueError, match="3 bad records of 3"):
        run()


def test_a_failure_leaves_the_output_as_it_was(project: Path):
    before = run()
    flip("data/tiny/train/train.rec", TrainSet.open("data/tiny/train").reader.offset(7))
    with pytest.raises(ValueError, match="1 bad records"):
        run()
    assert json.loads((OUT / "card.json").read_text()) == before


def half_exported() -> Path:
    """Leave what a run leaves that was killed: two images, one of them half written."""
    configure(export="folder")
    aside = unpack.begin_aside(OUT, unpack.state_of({"tiny": Path("data/tiny/train/train.rec")}, "folder"))
    for key, length in ((1, None), (2, 50)):
        path = aside / "images" / "0" / f"{key}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(IMAGES[key - 1][0][:length])
        os.utime(path, (1, 1))
    return aside


def test_a_killed_export_goes_on_where_it_was(project: Path):
    half_exported()
    run()
    assert (OUT / "images/0/1.jpg").stat().st_mtime == 1, "a whole image was written again"
    assert (OUT / "images/0/2.jpg").read_bytes() == IMAGES[1][0]
    assert len(list(OUT.glob("images/*/*"))) == 20
    assert sorted(path.name for path in OUT.iterdir()) == ["card.json", "images", "manifest.parquet"]


def test_what_a_killed_export_of_other_records_left_is_removed(project: Path):
    (half_exported() / "images" / "0" / "99.jpg").write_bytes(b"stale")
    os.utime("data/tiny/train/train.rec", (5, 5))
    run()
    assert not (OUT / "images/0/99.jpg").exists()
    assert (OUT / "images/0/1.jpg").stat().st_mtime > 1


def test_a_missing_section_says_what_to_run(project: Path):
    Path("resolved/datasets/tiny.yaml").unlink()
    with pytest.raises(FileNotFoundError, match="dvc repro"):
        run()


def start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stages.unpack", "tiny"],
        text=True,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_workers(process: subprocess.Popen[str]) -> list[int]:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s and process.poll() is None:
        workers = children(process.pid)
        if workers and any(Path("data/unpacked/tiny.partial").glob("images/*/*")):
            return workers
        time.sleep(0.01)
    raise AssertionError(f"no worker wrote an image; exit code {process.poll()}")


def still_alive(pids: list[int]) -> list[int]:
    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s and any(map(alive, pids)):
        time.sleep(0.02)
    return [pid for pid in pids if alive(pid)]


def make_a_long_run() -> None:
    # large images: they take long to decode, and few files are quick to write
    image = jpeg(1, side=400)
    insightface_rec.write(Path("data/tiny/train"), [(image, key // 20) for key in range(600)], 30)
    configure(export="folder")


@pytest.mark.skipif(sys.platform != "linux", reason="dying with the parent is a Linux call")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_no_worker_and_no_output_and_can_go_on(project: Path, number: signal.Signals):
    make_a_long_run()
    with start() as process:
        workers = wait_for_workers(process)
        process.send_signal(number)
        process.communicate(timeout=30)
        assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    assert still_alive(workers) == []
    assert not OUT.exists()
    kept = len(list(Path("data/unpacked/tiny.partial").glob("images/*/*")))
    assert 0 < kept < 600
    assert run()["images"] == 600
    assert len(list(OUT.glob("images/*/*"))) == 600


@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
def test_a_worker_that_dies_is_an_error_and_not_a_hang(project: Path):
    make_a_long_run()
    with start() as process:
        os.kill(wait_for_workers(process)[0], signal.SIGKILL)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "train.rec: a worker process died at key" in message
    assert not OUT.exists()
